"""From rollouts and gold answers to figures. Pure: who samples, and when, is decided above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import fmean

from selfevo_jax.chains import Candidate, Rollout
from selfevo_jax.evaluate.metrics import Proportion, VerdictQuality, majority, paired, proportion, verdict_quality
from selfevo_jax.text import extract_answer, same_answer

Right = dict[str, bool | None]
"""Row id -> whether its answer is right; None where the row could not be run (too long, say)."""


@dataclass(frozen=True)
class Accuracy(Proportion):
    """The share of right answers among the rows that could be run, and what stands beside it."""

    failed: int = 0
    """Rows that could not be run: they are in no share."""
    no_answer: int = 0
    """Rows that were run and gave no answer; they are not right."""
    clipped: int = 0
    """Answers (with several samples a row: samples) that hit the length limit."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of one checkpoint on one set; None where a mode was not run."""

    rows: int
    direct: Accuracy
    """The first response, greedy."""
    refined: Accuracy | None = None
    """With self-refinement: the candidate that the model's own feedback chose."""
    consistency: Accuracy | None = None
    """Majority of k sampled responses."""
    both: Accuracy | None = None
    """Majority of k sampled and self-refined answers."""
    right_to_wrong: int = 0
    """Rows that refinement spoilt."""
    wrong_to_right: int = 0
    """Rows that refinement put right."""
    verdict: VerdictQuality | None = None
    """Of the feedback on the first response."""
    mean_length: float = 0.0
    """Tokens of a response."""
    right: dict[str, Right] = field(default_factory=dict)
    """Mode -> which rows are right: what two checkpoints are compared by, row by row."""


def is_right(text: str, gold: str) -> bool:
    """Whether a text gives the gold answer, by the written rule of `selfevo_jax.text.RULES`."""
    return same_answer(text, gold)


def _accuracy(right: Right, no_answer: int, clipped: int) -> Accuracy:
    asked = [hit for hit in right.values() if hit is not None]
    return Accuracy(**vars(proportion(asked)), failed=len(right) - len(asked), no_answer=no_answer, clipped=clipped)


def _clipped(candidate: Candidate) -> bool:
    return candidate.finish in ("length", "cache")


def _greedy(gold: Mapping[str, str], answers: Mapping[str, Candidate | None]) -> tuple[Right, Accuracy]:
    """One answer a row; None where it could not be run."""
    right = {id: None if given is None else is_right(given.text, gold[id]) for id, given in answers.items()}
    given = [answer for answer in answers.values() if answer is not None]
    no_answer = sum(extract_answer(answer.text) is None for answer in given)
    return right, _accuracy(right, no_answer, sum(map(_clipped, given)))


def score(gold: Mapping[str, str], rollouts: Sequence[Rollout]) -> Evaluation:
    """Direct and refined accuracy, flips and verdict quality of greedy rollouts, one a row."""
    responses = {r.id: None if r.candidates[0].finish == "error" else r.candidates[0] for r in rollouts}
    first, direct = _greedy(gold, responses)
    # a row of which a later stage could not be run has its response, but no refined answer
    chosen, refined = _greedy(gold, {r.id: None if r.error else r.candidates[r.chosen] for r in rollouts})
    feedback = [(r.candidates[0].feedback, first[r.id]) for r in rollouts]
    verdicts = [(f.good, right) for f, right in feedback if f is not None and f.finish != "error" and right is not None]
    flips = paired(first, chosen) if verdicts else None
    return Evaluation(
        rows=len(rollouts),
        direct=direct,
        refined=refined if verdicts else None,
        right_to_wrong=flips.lost if flips is not None else 0,
        wrong_to_right=flips.gained if flips is not None else 0,
        verdict=verdict_quality([v for v, _ in verdicts], [t for _, t in verdicts]) if verdicts else None,
        mean_length=fmean(given) if (given := [a.n_tokens for a in responses.values() if a is not None]) else 0.0,
        right={"direct": first} | ({"refined": chosen} if verdicts else {}),
    )


def vote(gold: Mapping[str, str], samples: Sequence[Rollout], refined: bool) -> tuple[Right, Accuracy]:
    """Self-consistency (Wang et al., arXiv 2203.11171): which rows are right by the most frequent answer of their
    samples. Samples that could not be run have no vote; a row without any is not asked."""
    answers: dict[str, list[Candidate]] = {r.id: [] for r in samples}
    for r in sorted(samples, key=lambda r: (r.id, r.sample)):
        answer = r.candidates[r.chosen if refined else 0]
        if answer.finish != "error" and not (refined and r.error):
            answers[r.id].append(answer)
    winners: dict[str, Fraction | None] = {
        id: majority([extract_answer(answer.text) for answer in given]) for id, given in answers.items()
    }
    right = {
        id: None if not given else winners[id] is not None and winners[id] == extract_answer(gold[id])
        for id, given in answers.items()
    }
    no_answer = sum(bool(given) and winners[id] is None for id, given in answers.items())
    return right, _accuracy(right, no_answer, sum(_clipped(a) for given in answers.values() for a in given))


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
    """Of the rows that could be run; None where no gold answer is known for their prompts."""
    known = [r for r in rollouts if r.id in gold and r.error is None]
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
