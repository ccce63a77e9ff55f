"""From rollouts and gold answers to figures. Pure: who samples, and when, is decided above."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

from selfevo_jax.evaluate.metrics import Proportion, VerdictQuality, majority, proportion, verdict_quality
from selfevo_jax.sample import Rollout
from selfevo_jax.text import extract_answer, same_answer


@dataclass(frozen=True)
class Evaluation:
    """Figures of one checkpoint on one set; None where a mode was not run."""

    rows: int
    direct: Proportion
    """The first response, greedy."""
    refined: Proportion | None = None
    """With self-refinement: the candidate that the model's own feedback chose."""
    consistency: Proportion | None = None
    """Majority of k sampled responses."""
    both: Proportion | None = None
    """Majority of k sampled and self-refined answers."""
    right_to_wrong: int = 0
    """Rows that refinement spoilt."""
    wrong_to_right: int = 0
    """Rows that refinement put right."""
    verdict: VerdictQuality | None = None
    """Of the feedback on the first response."""
    failed: int = 0
    """Rows that could not be run (too long, say); they count as wrong."""
    no_answer: int = 0
    """Responses without a number."""
    clipped: int = 0
    """Responses that hit the length limit."""
    mean_length: float = 0.0
    """Tokens of a response."""


def is_right(text: str, gold: str) -> bool:
    """Whether a text gives the gold answer, by the written rule of `selfevo_jax.text.RULES`."""
    return same_answer(text, gold)


def score(gold: Mapping[str, str], rollouts: Sequence[Rollout]) -> Evaluation:
    """Direct and refined accuracy, flips and verdict quality of greedy rollouts, one a row."""
    first = [is_right(r.candidates[0].text, gold[r.id]) for r in rollouts]
    chosen = [is_right(r.candidates[r.chosen].text, gold[r.id]) for r in rollouts]
    judged = [(r.candidates[0].feedback, truth) for r, truth in zip(rollouts, first, strict=True)]
    verdicts = [(feedback.good, truth) for feedback, truth in judged if feedback is not None]
    return Evaluation(
        rows=len(rollouts),
        direct=proportion(first),
        refined=proportion(chosen) if verdicts else None,
        right_to_wrong=sum(a and not b for a, b in zip(first, chosen, strict=True)),
        wrong_to_right=sum(b and not a for a, b in zip(first, chosen, strict=True)),
        verdict=verdict_quality([v for v, _ in verdicts], [t for _, t in verdicts]) if verdicts else None,
        failed=sum(r.error is not None for r in rollouts),
        no_answer=sum(extract_answer(r.candidates[0].text) is None for r in rollouts),
        clipped=sum(r.candidates[0].finish in ("length", "cache") for r in rollouts),
        mean_length=fmean(r.candidates[0].n_tokens for r in rollouts) if rollouts else 0.0,
    )


def vote(gold: Mapping[str, str], samples: Sequence[Rollout], refined: bool) -> Proportion:
    """Self-consistency (Wang et al., arXiv 2203.11171): accuracy of the most frequent answer of each row's samples."""
    answers: dict[str, list[Fraction | None]] = defaultdict(list)
    for r in sorted(samples, key=lambda r: (r.id, r.sample)):
        text = r.candidates[r.chosen if refined else 0].text
        answers[r.id].append(extract_answer(text))
    winners = {id: majority(given) for id, given in answers.items()}
    return proportion([w is not None and w == extract_answer(gold[id]) for id, w in winners.items()])


@dataclass(frozen=True)
class DataAccuracy:
    """How right the self-made data is, measured with gold answers after the choice was made."""

    first: Proportion
    """First responses."""
    candidates: Proportion
    """The chosen candidate of every row, before the filter."""
    kept: Proportion
    """The rows that passed."""
    verdict: VerdictQuality | None
    """Of the feedback on the chosen candidates."""


def data_accuracy(gold: Mapping[str, str], rollouts: Sequence[Rollout], kept: Sequence[Rollout]) -> DataAccuracy | None:
    """None where no gold answer is known for the prompts."""
    known = [r for r in rollouts if r.id in gold and r.candidates]
    if not known:
        return None
    right = [is_right(r.candidates[r.chosen].text, gold[r.id]) for r in known]
    verdicts = [(r.candidates[r.chosen].feedback, truth) for r, truth in zip(known, right, strict=True)]
    judged = [(feedback.good, truth) for feedback, truth in verdicts if feedback is not None]
    return DataAccuracy(
        first=proportion([is_right(r.candidates[0].text, gold[r.id]) for r in known]),
        candidates=proportion(right),
        kept=proportion([is_right(r.candidates[r.chosen].text, gold[r.id]) for r in kept if r.id in gold]),
        verdict=verdict_quality([v for v, _ in judged], [t for _, t in judged]) if judged else None,
    )
