"""From rollouts and scorers to figures. Who samples, and when, is decided above."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from selfevo_jax.chains import Candidate, Rollout
from selfevo_jax.data import EvaluationRow, Selection
from selfevo_jax.evaluate.metrics import (
    Proportion,
    VerdictQuality,
    majority,
    of_clusters,
    paired,
    proportion,
    verdict_quality,
)
from selfevo_jax.scorers import Grade, Scorer, grades_of, keys_of

Right = dict[str, bool | None]
"""Row id -> whether its answer is right; None where the row could not be run (too long, say), or not be scored."""
Answers = Mapping[str, Candidate | None]
"""Row id -> its answer; None where it could not be run."""
Grades = dict[tuple[str, str], Grade]
"""(Row id, text) -> grade."""
MODES = ("direct", "refined")
"""Whose answers have their grades beside the texts: first responses, and the candidates that were chosen."""


@dataclass(frozen=True)
class EvaluationSet:
    """Rows, and the scorers that read them; the first scorer is the primary one."""

    rows: Sequence[EvaluationRow]
    scorers: Sequence[Scorer]
    selection: Selection | None = None
    """Of the source's rows, where some are left out by their values."""

    def grades(self, pairs: Iterable[tuple[str, str]]) -> dict[str, Grades]:
        """Grades of (row id, text) by the scorer's name."""
        unique, by_id = list(dict.fromkeys(pairs)), {row.id: row for row in self.rows}
        rows, texts = [by_id[id] for id, _ in unique], [text for _, text in unique]
        return {s.name: dict(zip(unique, grades_of(s, rows, texts), strict=True)) for s in self.scorers}

    @property
    def votes(self) -> bool:
        """Whether answers can vote, by the primary scorer: there is no majority of those that cannot."""
        return bool(getattr(self.scorers[0], "votes", True))

    def hint(self, rollouts: Sequence[Rollout]) -> str | None:
        """What the primary scorer has to say of the first responses."""
        by_id = {row.id: row for row in self.rows}
        pairs = [(by_id[r.id], r.candidates[0].text) for r in rollouts if r.candidates[0].finish != "error"]
        ask = getattr(self.scorers[0], "hint", None)
        return None if ask is None else ask([row for row, _ in pairs], [text for _, text in pairs])


@dataclass(frozen=True)
class Accuracy(Proportion):
    """The share of right answers among the rows that could be run and scored, and what stands beside it."""

    failed: int = 0
    """Rows that could not be run: they are in no share."""
    not_scored: int = 0
    """Rows that were run and could not be scored: they are in no share either."""
    no_answer: int = 0
    """Rows that were run and gave no answer; they are not right."""
    clipped: int = 0
    """Answers (with several samples a row: samples) that hit the length limit."""
    mean: float | None = None
    """Grade of the rows in the share; equal to it where a scorer knows right and wrong alone."""
    mean_error: float | None = None
    """Standard error of the mean grade."""
    demands: Proportion | None = None
    """Demands that are met, of all that could be scored, where the scorer has several a row; for the interval those of
    one row are a cluster."""
    demands_not_scored: int = 0
    by_kind: dict[str, Proportion] = field(default_factory=dict)
    """Kind of demand -> those that are met, of all of it that could be scored."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of one checkpoint on one set, by its primary scorer; None where a mode was not run."""

    rows: int
    scorers: tuple[str, ...]
    """Their names, the primary one first."""
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
    right: dict[str, Right] = field(default_factory=dict)
    """Mode -> which rows are right: what two checkpoints are compared by, row by row."""
    further: dict[str, dict[str, Accuracy]] = field(default_factory=dict)
    """Scorer beside the primary one -> mode -> its figures."""
    selection: Selection | None = None
    """As the set has it."""


def _figures(grades: Mapping[str, Grade | None], clipped: int) -> tuple[Right, Accuracy]:
    """Of one grade a row; None where the row could not be run."""
    run = [grade for grade in grades.values() if grade is not None]
    values = [grade.value for grade in run if grade.value is not None]
    parts = [list(grade.parts.values()) for grade in run]
    mean = fmean(values) if values else None
    return {id: None if grade is None else grade.right for id, grade in grades.items()}, Accuracy(
        **vars(proportion([value >= 1.0 for value in values])),
        failed=len(grades) - len(run),
        not_scored=len(run) - len(values),
        no_answer=sum(not grade.answered for grade in run),
        clipped=clipped,
        mean=mean,
        mean_error=None if mean is None else math.sqrt(fmean([(v - mean) ** 2 for v in values]) / len(values)),
        demands=of_clusters([[part for part in of_row if part is not None] for of_row in parts])
        if any(parts)
        else None,
        demands_not_scored=sum(of_row.count(None) for of_row in parts),
        by_kind=_by_kind(run),
    )


def _by_kind(grades: Iterable[Grade]) -> dict[str, Proportion]:
    found: dict[str, list[bool]] = {}
    for grade in grades:
        for name, met in grade.parts.items():
            if met is not None:
                found.setdefault(name.partition("#")[0], []).append(met)
    return {kind: proportion(found[kind]) for kind in sorted(found)}


def _greedy(answers: Answers, grades: Grades) -> tuple[Right, Accuracy]:
    found = {id: None if given is None else grades[id, given.text] for id, given in answers.items()}
    return _figures(found, sum(given is not None and given.clipped for given in answers.values()))


def score(of: EvaluationSet, rollouts: Sequence[Rollout]) -> tuple[Evaluation, list[dict[str, Any]]]:
    """Direct and refined accuracy, flips and verdict quality of greedy rollouts, one a row; and each rollout as plain
    values (`Rollout.to_dict`), with its row's columns and the grades of its answers beside it."""
    modes: dict[str, Answers] = {
        "direct": {r.id: None if r.candidates[0].finish == "error" else r.candidates[0] for r in rollouts},
        # a row of which a later stage could not be run has its response, but no refined answer
        "refined": {r.id: None if r.error else r.candidates[r.chosen] for r in rollouts},
    }
    grades = of.grades((id, given.text) for mode in modes.values() for id, given in mode.items() if given is not None)
    primary, *others = (scorer.name for scorer in of.scorers)
    first, direct = _greedy(modes["direct"], grades[primary])
    chosen, refined = _greedy(modes["refined"], grades[primary])
    feedback = [(r.candidates[0].feedback, first[r.id]) for r in rollouts]
    verdicts = [(f.good, right) for f, right in feedback if f is not None and f.finish != "error" and right is not None]
    if not verdicts:
        del modes["refined"]
    flips = paired(first, chosen) if verdicts else None
    found = Evaluation(
        rows=len(rollouts),
        scorers=(primary, *others),
        direct=direct,
        refined=refined if verdicts else None,
        right_to_wrong=flips.lost if flips is not None else 0,
        wrong_to_right=flips.gained if flips is not None else 0,
        verdict=verdict_quality([v for v, _ in verdicts], [t for _, t in verdicts]) if verdicts else None,
        right={"direct": first} | ({"refined": chosen} if verdicts else {}),
        further={name: {mode: _greedy(modes[mode], grades[name])[1] for mode in modes} for name in others},
        selection=of.selection,
    )
    return found, _texts(of, rollouts, modes, grades)


def _texts(
    of: EvaluationSet, rollouts: Sequence[Rollout], modes: Mapping[str, Answers], grades: Mapping[str, Grades]
) -> list[dict[str, Any]]:
    columns = {row.id: row.columns for row in of.rows}

    def of_mode(id: str, given: Candidate | None) -> dict[str, Any] | None:
        return None if given is None else {name: asdict(found[id, given.text]) for name, found in grades.items()}

    return [
        r.to_dict()
        | {"columns": dict(columns[r.id]), "grades": {mode: of_mode(r.id, modes[mode][r.id]) for mode in modes}}
        for r in rollouts
    ]


def rollout_of(text: Mapping[str, Any]) -> Rollout:
    """The rollout within what `score` gives of a row."""
    return Rollout.from_dict({key: value for key, value in text.items() if key not in ("columns", "grades")})


def vote(of: EvaluationSet, samples: Sequence[Rollout], refined: bool) -> tuple[Right, dict[str, Accuracy]]:
    """Self-consistency (Wang et al., arXiv 2203.11171): which rows are right by the most frequent answer of their
    samples, by the primary scorer's keys; and the figures of each scorer. Samples that could not be run have no vote; a
    row without any is not asked."""
    answers: dict[str, list[Candidate]] = {r.id: [] for r in samples}
    for r in sorted(samples, key=lambda r: (r.id, r.sample)):
        answer = r.candidates[r.chosen if refined else 0]
        if answer.finish != "error" and not (refined and r.error):
            answers[r.id].append(answer)
    rows = {row.id: row for row in of.rows}
    given = [(id, answer.text) for id, all in answers.items() for answer in all]
    keys = iter(keys_of(of.scorers[0], [rows[id] for id, _ in given], [text for _, text in given]))
    winners: dict[str, str | None] = {}
    for id, all in answers.items():
        votes = [(next(keys), answer.text) for answer in all]
        key = majority([key for key, _ in votes])
        winners[id] = None if key is None else next(text for voted, text in votes if voted == key)
    grades = of.grades((id, text) for id, text in winners.items() if text is not None)
    clipped = sum(answer.clipped for all in answers.values() for answer in all)
    found = {}
    for name, known in grades.items():
        of_rows = {
            id: None if not answers[id] else Grade(0.0, answered=False) if text is None else known[id, text]
            for id, text in winners.items()
        }
        found[name] = _figures(of_rows, clipped)
    return found[of.scorers[0].name][0], {name: accuracy for name, (_, accuracy) in found.items()}


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
    not_scored: int = 0
    """Texts that could not be scored; they are in no share."""


def data_accuracy(
    gold: Mapping[str, EvaluationRow], scorer: Scorer, rollouts: Sequence[Rollout], kept: Sequence[Rollout]
) -> tuple[DataAccuracy, list[dict[str, Any]]] | None:
    """Of the rows that could be run; and for each of them its columns and the grades of its first and its chosen
    answer, as `score` gives them. None where no gold answer is known for their prompts."""
    known = [r for r in rollouts if r.id in gold and r.error is None]
    if not known:
        return None
    of = EvaluationSet(list(gold.values()), [scorer])
    chosen = [(r.id, r.candidates[r.chosen].text) for r in known]
    first = [(r.id, r.candidates[0].text) for r in known]
    passed = [(r.id, r.candidates[r.chosen].text) for r in kept if r.id in gold]
    grades = of.grades([*chosen, *first, *passed])[scorer.name]

    def share(pairs: Sequence[tuple[str, str]]) -> Proportion:
        return proportion([right for pair in pairs if (right := grades[pair].right) is not None])

    verdicts = [(r.candidates[r.chosen].judged, grades[pair].right) for r, pair in zip(known, chosen, strict=True)]
    judged = [(f.good, truth) for f, truth in verdicts if f is not None and truth is not None]
    found = DataAccuracy(
        first=share(first),
        candidates=share(chosen),
        kept=share(passed),
        verdict=verdict_quality([v for v, _ in judged], [t for _, t in judged]) if judged else None,
        not_scored=sum(grade.value is None for grade in grades.values()),
    )
    graded = [
        {"id": r.id, "sample": r.sample, "columns": dict(gold[r.id].columns)}
        | {"grades": {mode: {scorer.name: asdict(grades[of])} for mode, of in zip(MODES, pairs, strict=True)}}
        for r, *pairs in zip(known, first, chosen, strict=True)
    ]
    return found, graded
