"""What the limits of sampling have cost: rows that could not be run, and texts that were cut, with the key to raise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from selfevo_jax.chains import Rollout
from selfevo_jax.config import Config
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError
from selfevo_jax.sample import SamplingSection
from selfevo_jax.text import PromptFormat

CLIPPED_WARN_ABOVE = 0.05
"""Share of the texts of a stage that may be cut at a limit without a warning."""


def check_first_round(config: Config, prompts: Sequence[PromptRow], format: PromptFormat) -> str | None:
    """A line where given prompts of the first round are too long for a slot. Raises ConfigError where no filter could
    leave as many rows as a round needs."""
    room = config.sampling.cache_length
    long = [(row.id, n) for row in prompts if (n := len(format.respond(row.prompt))) > room]
    told = (
        f"{len(long)} of the {len(prompts)} prompts of round 1 have more tokens than sampling.cache_length {room} "
        f"(such as '{long[0][0]}' with {long[0][1]}) and cannot be run"
        if long
        else None
    )
    a_prompt = config.rounds.most_of_prompt(config.data.samples_per_prompt)
    most = (len(prompts) - len(long) + config.data.to_write(1)) * a_prompt
    least = config.rounds.minimum_kept
    if most < least:
        raise ConfigError(
            f"rounds.minimum_kept is {least}, but a round can keep {most} rows at most: "
            + (f"{told}; raise sampling.cache_length" if told else "raise data.prompts_per_round, or give more prompts")
        )
    return told


def not_run(rollouts: Sequence[Rollout], sampling: SamplingSection) -> str | None:
    """How many rows could not be run, and why the first could not; None where all were."""
    return failed([r.error for r in rollouts], sampling)


def failed(errors: Sequence[str | None], sampling: SamplingSection) -> str | None:
    """`not_run` of rows that are known by their errors alone, None for each row that has none."""
    found = [error for error in errors if error is not None]
    if not found:
        return None
    return (
        f"{len(found)} of {len(errors)} rows could not be run; sampling.cache_length is {sampling.cache_length}; "
        f"the first: {found[0]}"
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
    judged = [text.finish for row in candidates for c in row if c.feedback is not None for text in c.feedback.texts]
    yield "responses", _key("respond", sampling), [row[0].finish for row in candidates]
    yield "texts of feedback", _key("feedback", sampling), judged
    yield "refinements", _key("refine", sampling), [c.finish for row in candidates for c in row[1:]]


def _key(stage: str, sampling: SamplingSection) -> str:
    return f"sampling.{stage}.max_new_tokens (now {getattr(sampling, stage).max_new_tokens})"
