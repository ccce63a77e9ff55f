"""What the limits of sampling have cost: rows that could not be run, and texts that were cut, with the key to raise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from selfevo_jax.config import SamplingSection
from selfevo_jax.sample import Rollout

CLIPPED_WARN_ABOVE = 0.05
"""Share of the texts of a stage that may be cut at a limit without a warning."""


def not_run(rollouts: Sequence[Rollout], sampling: SamplingSection) -> str | None:
    """How many rows could not be run, and why the first could not; None where all were."""
    errors = [r.error for r in rollouts if r.error is not None]
    if not errors:
        return None
    return (
        f"{len(errors)} of {len(rollouts)} rows could not be run; sampling.cache_length is {sampling.cache_length}; "
        f"the first: {errors[0]}"
    )


def clipped(rollouts: Sequence[Rollout], sampling: SamplingSection) -> Iterator[str]:
    """A line for each stage and limit that cut more than CLIPPED_WARN_ABOVE of the stage's texts."""
    for stage, key, finishes in _stages(rollouts, sampling):
        found = Counter(finish for finish in finishes if finish != "error")
        for finish, setting in (("length", key), ("cache", f"sampling.cache_length (now {sampling.cache_length})")):
            if found[finish] > CLIPPED_WARN_ABOVE * found.total():
                yield (
                    f"{found[finish]} of {found.total()} {stage} ({found[finish] / found.total():.0%}) were cut at a "
                    f"limit; raise {setting}"
                )


def _stages(rollouts: Sequence[Rollout], sampling: SamplingSection) -> Iterator[tuple[str, str, list[str]]]:
    """Name, key of the limit, and how the texts ended."""
    candidates = [r.candidates for r in rollouts]
    judged = [c.feedback.finish for row in candidates for c in row if c.feedback is not None]
    yield "responses", _key("respond", sampling), [row[0].finish for row in candidates]
    yield "texts of feedback", _key("feedback", sampling), judged
    yield "refinements", _key("refine", sampling), [c.finish for row in candidates for c in row[1:]]


def _key(stage: str, sampling: SamplingSection) -> str:
    return f"sampling.{stage}.max_new_tokens (now {getattr(sampling, stage).max_new_tokens})"
