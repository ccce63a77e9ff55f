"""The filter: which self-made rows a round learns from. Sees the model's own feedback, never a gold answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from selfevo_jax.errors import EmptySelectionError
from selfevo_jax.evaluate import distinct_ngrams, entropy
from selfevo_jax.sample import CUT, Rollout

Policy = Literal["feedback", "none", "random"]


@dataclass(frozen=True)
class Counts:
    """What became of the rollouts of a round."""

    sampled: int
    failed: int
    """Prompts that could not be run (too long, say)."""
    clipped: int
    """Rows whose response or chosen candidate hit a limit; a clipped candidate is never kept."""
    unparseable: int
    """Rows with feedback that could not be read (or was clipped): the chain ends there, and the row is dropped."""
    cut: int
    """Rows whose response or chosen candidate ran on behind its end and was cut there; it is taught without an end."""
    empty: int
    """Rows whose chosen candidate came to its end without a word, or within its first token; never kept."""
    run_on_feedback: int
    """Rows with feedback that ran on behind its verdict; what ran on is read by nobody."""
    judged_good_first: int
    """First responses that the model's own feedback called good."""
    refined: int
    """Rows whose chosen candidate is a refinement."""
    judged_good: int
    """Rows whose chosen candidate was called good."""
    duplicates: int
    """Kept rows dropped because prompt and answer stand there already."""
    kept: int
    mean_tokens: float
    """Of kept answers."""
    distinct_bigrams: float | None
    entropy_bits: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Selection:
    kept: list[Rollout]
    counts: Counts


def _finished(rollout: Rollout) -> bool:
    return rollout.error is None and rollout.candidates[rollout.chosen].finished


def _empty(rollout: Rollout) -> bool:
    chosen = rollout.candidates[rollout.chosen]
    return not (chosen.text.strip() and chosen.tokens)


def _verdict(rollout: Rollout, index: int) -> bool | None:
    feedback = rollout.candidates[index].feedback
    return None if feedback is None else feedback.good


def select(rollouts: Sequence[Rollout], policy: Policy, seed: int) -> Selection:
    """Keeps the rows whose chosen candidate is finished and, by `feedback`, called good.

    `none` keeps every finished row; `random` as many as `feedback` would, drawn blindly with `seed`.
    """
    usable = [r for r in rollouts if _finished(r) and not _empty(r)]
    good = [r for r in usable if _verdict(r, r.chosen) is True]
    if policy == "feedback":
        passed = good
    elif policy == "none":
        passed = usable
    else:
        order = sorted(usable, key=lambda r: (r.id, r.sample))
        drawn = random.Random(seed).sample(range(len(order)), len(good))
        passed = [order[i] for i in sorted(drawn)]
    kept: dict[tuple[str, str], Rollout] = {}
    for r in sorted(passed, key=lambda r: (r.id, r.sample)):
        kept.setdefault((r.prompt, r.candidates[r.chosen].text.strip()), r)
    answers = [r.candidates[r.chosen] for r in kept.values()]
    texts = [answer.text for answer in answers]
    counts = Counts(
        sampled=len(rollouts),
        failed=sum(r.error is not None for r in rollouts),
        clipped=sum(
            r.error is None and not (r.candidates[0].finished and r.candidates[r.chosen].finished) for r in rollouts
        ),
        unparseable=sum(
            r.error is None and any(c.feedback is not None and c.feedback.good is None for c in r.candidates)
            for r in rollouts
        ),
        cut=sum(CUT in (r.candidates[0].finish, r.candidates[r.chosen].finish) for r in rollouts),
        empty=sum(_finished(r) and _empty(r) for r in rollouts),
        run_on_feedback=sum(
            any(c.feedback is not None and c.feedback.finish == CUT for c in r.candidates) for r in rollouts
        ),
        judged_good_first=sum(bool(r.candidates) and _verdict(r, 0) is True for r in rollouts),
        refined=sum(r.chosen > 0 for r in rollouts),
        judged_good=len(good),
        duplicates=len(passed) - len(kept),
        kept=len(kept),
        mean_tokens=fmean(answer.n_tokens for answer in answers) if answers else 0.0,
        distinct_bigrams=distinct_ngrams(texts),
        entropy_bits=entropy(texts),
    )
    return Selection(list(kept.values()), counts)


def require(selection: Selection, minimum: int, round: int) -> None:
    """Raises EmptySelectionError, with the counts, when too few rows passed to learn from."""
    c = selection.counts
    if c.kept < minimum:
        raise EmptySelectionError(
            f"round {round}: {c.kept} of {c.sampled} rows passed the filter, expected {minimum} or more "
            f"(clipped {c.clipped}, unparseable feedback {c.unparseable}, failed {c.failed}, judged good "
            f"{c.judged_good}). The weights are untouched and the round is not trained. Look at the rollouts; a "
            "longer meta stage, more prompts or a longer max_new_tokens may help"
        )
