"""Chains as a reader looks for them: with the gold answer, what became of each, and how its verdict agrees with gold.

Read from the records of a run alone: nothing is judged or scored anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.evaluate import rollout_of
from selfevo_jax.judges import Assessment
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.names import CURATED, GRADES
from selfevo_jax.run.run_dir import RunDir

PUT_RIGHT, SPOILT, LEFT_RIGHT, LEFT_WRONG = "put right", "spoilt", "left right", "left wrong"
STILL_RIGHT, STILL_WRONG, NOT_SCORED, FAILED = "still right", "still wrong", "not scored", "failed"
KINDS = {
    PUT_RIGHT: "wrong, and right after refinement",
    SPOILT: "right, and wrong after refinement",
    LEFT_RIGHT: "right, and left as it was",
    LEFT_WRONG: "wrong, and left as it was",
    STILL_RIGHT: "refined, right before and after",
    STILL_WRONG: "refined, wrong before and after",
    NOT_SCORED: "without a grade of its first or its chosen answer",
    FAILED: "could not be run",
}
"""What became of a chain, in words."""
GOOD_RIGHT, GOOD_WRONG, BAD_RIGHT, BAD_WRONG = "good and right", "good but wrong", "bad but right", "bad and wrong"
UNREAD, NO_GOLD, UNJUDGED = "not read", "no grade", "not judged"
VERDICTS = (GOOD_RIGHT, GOOD_WRONG, BAD_RIGHT, BAD_WRONG, UNREAD, NO_GOLD, UNJUDGED)
"""A verdict beside gold."""


@dataclass(frozen=True)
class Entry:
    """One chain."""

    at: str
    """The round that sampled it, or the checkpoint that answered it, as tables show them: `round 2`, `meta`."""
    set: str | None
    """The evaluation set; None for a chain of a round."""
    rollout: Rollout
    gold: str | None
    right: tuple[bool | None, bool | None]
    """The first and the chosen answer, by the primary scorer; None: not known."""
    kept: bool | None = None
    """Whether the round learns from it; None for an evaluation."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        if self.rollout.error is not None:
            return FAILED
        first, chosen = self.right
        if first is None or chosen is None:
            return NOT_SCORED
        if self.rollout.chosen == 0:
            return LEFT_RIGHT if first else LEFT_WRONG
        if first:
            return STILL_RIGHT if chosen else SPOILT
        return PUT_RIGHT if chosen else STILL_WRONG

    @property
    def judged(self) -> Feedback | Assessment | None:
        """What was said of the answer whose verdict the figures are of: of a round the chosen one, of an evaluation the
        first. A chain that could not be run to its end is in no figure, whatever was said in it."""
        answers = () if self.rollout.error is not None else self.rollout.candidates
        return answers[self.rollout.chosen if self.set is None else 0].judged if answers else None

    @property
    def verdict(self) -> str:
        """One of VERDICTS, for the answer whose verdict the figures are of (see `judged`)."""
        judged, truth = self.judged, self.right[1 if self.set is None else 0]
        if judged is None:
            return UNJUDGED
        if judged.good is None:
            return UNREAD
        if truth is None:
            return NO_GOLD
        if judged.good:
            return GOOD_RIGHT if truth else GOOD_WRONG
        return BAD_RIGHT if truth else BAD_WRONG

    @property
    def clipped(self) -> bool:
        """Whether an answer or a feedback in it hit a limit."""
        said = [c.feedback for c in self.rollout.candidates if c.feedback is not None]
        cut = any(text.finish in ("length", "cache") for one in said for text in one.texts)
        return cut or any(c.clipped for c in self.rollout.candidates)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without token ids."""
        r = self.rollout
        grades = {0: self.right[0], r.chosen: self.right[1]}
        return {
            "at": self.at,
            "set": self.set,
            "id": r.id,
            "sample": r.sample,
            "prompt": r.prompt,
            "gold": self.gold,
            "kind": self.kind,
            "verdict": self.verdict,
            "kept": self.kept,
            "clipped": self.clipped,
            "chosen": r.chosen,
            "error": r.error,
            "answers": [_answer(c, grades.get(n)) for n, c in enumerate(r.candidates)],
        }


def _answer(candidate: Candidate, right: bool | None) -> dict[str, Any]:
    found: dict[str, Any] = {"text": candidate.text, "finish": candidate.finish, "right": right}
    if candidate.feedback is not None:
        found["feedback"] = _feedback(candidate.feedback)
        if candidate.feedback.members:
            found["feedback"]["members"] = [_feedback(member) for member in candidate.feedback.members]
    if candidate.assessment is not None:
        one = candidate.assessment
        found["judge"] = {"text": one.text, "good": one.good, "rating": one.rating, "unread": one.unread}
    return found


def _feedback(feedback: Feedback) -> dict[str, Any]:
    return {"text": feedback.text, "good": feedback.good, "rating": feedback.rating, "finish": feedback.finish}


@dataclass(frozen=True)
class Wanted:
    """Which entries a reader wants to see."""

    kinds: frozenset[str] = frozenset()
    """None: any."""
    verdicts: frozenset[str] = frozenset()
    right: bool | None = None
    """The chosen answer."""
    kept: bool | None = None
    clipped: bool = False
    prompt: str | None = None
    """What the prompt has in it, or the id of its row."""
    search: str | None = None
    """What some text of the chain has in it; capitals do not count, here and in `prompt`."""

    def has(self, entry: Entry) -> bool:
        """Whether it is one of those."""
        r = entry.rollout
        if (self.kinds and entry.kind not in self.kinds) or (self.verdicts and entry.verdict not in self.verdicts):
            return False
        if (self.right is not None and entry.right[1] is not self.right) or (self.clipped and not entry.clipped):
            return False
        if self.kept is not None and entry.kept is not self.kept:
            return False
        if self.prompt is not None and r.id != self.prompt and self.prompt.lower() not in r.prompt.lower():
            return False
        return self.search is None or any(self.search.lower() in text.lower() for text in _texts(entry))


def _texts(entry: Entry) -> Iterator[str]:
    yield from (entry.rollout.prompt, entry.gold or "")
    for candidate in entry.rollout.candidates:
        yield candidate.text
        yield from (text.text for text in (candidate.feedback.texts if candidate.feedback is not None else ()))
        if candidate.assessment is not None:
            yield candidate.assessment.text


def is_right(row: Mapping[str, Any], mode: str) -> bool | None:
    """By the primary scorer's grade in a row of `grades`; None where that is not known."""
    grades = row.get("grades", {}).get(mode)
    value = None if not grades else next(iter(grades.values()))["value"]
    return None if value is None else bool(value >= 1.0)


def gold_of(columns: Mapping[str, Any]) -> str | None:
    """The column `answer`, of a worked solution its last line; None where there is none."""
    answer = columns.get("answer")
    lines = [] if answer is None else str(answer).strip().splitlines()
    return lines[-1].strip() if lines else None


def entry_of(row: Mapping[str, Any], shown: str, set_name: str) -> Entry:
    """Of a row as `evaluate.score` gives it. Where nothing was refined the first answer is the chosen one."""
    rollout, first = rollout_of(row), is_right(row, "direct")
    chosen = is_right(row, "refined") if "refined" in row["grades"] else first
    return Entry(shown, set_name, rollout, gold_of(row["columns"]), (first, chosen))


def answers_of(run: RunDir, name: str, shown: str, set_name: str) -> Iterator[Entry]:
    """What a checkpoint answered to the rows of an evaluation set; none where it was not measured, or its texts were
    not kept."""
    path = run.texts(name, set_name)
    if not path.exists():
        return
    with understood(path):
        for row in _each(path):
            yield entry_of(row, shown, set_name)


def chains_of(run: RunDir, number: int) -> Iterator[Entry]:
    """The chains of a round (see `rollouts_of`). Gold and grades are known when the round has learnt."""
    kept = _keys(run.round(number, CURATED))
    graded = _graded(run.round(number, GRADES))
    for rollout in rollouts_of(run, number):
        key = rollout.id, rollout.sample
        gold, right = graded.get(key, (None, (None, None)))
        yield Entry(f"round {number}", None, rollout, gold, right, None if kept is None else key in kept)


def rollouts_of(run: RunDir, number: int) -> Iterator[Rollout]:
    """The chains of a round in the order of its record, with what a batch judge has said of them and what it chooses by
    that, where there is one; none where they are not finished."""
    if not run.round(number, "rollouts/manifest.json").exists():
        return
    path, judged = (run.round(number, f"{folder}/part-00000.jsonl") for folder in ("rollouts", "judged"))
    with understood(path):
        if not _is_judged(run, number):
            yield from map(Rollout.from_dict, _each(path))
            return
        for row, said in zip(_each(path), _each(judged), strict=True):
            yield Rollout.from_dict(row).assessed([Assessment(**one) for one in said["candidates"]])


def _is_judged(run: RunDir, number: int) -> bool:
    return run.round(number, "judged/manifest.json").exists()


def _keys(path: Path) -> set[tuple[str, int]] | None:
    return {(row["id"], row["sample"]) for row in read_rows(path)} if path.exists() else None


def _graded(path: Path) -> dict[tuple[str, int], tuple[str | None, tuple[bool | None, bool | None]]]:
    if not path.exists():
        return {}
    with understood(path):
        return {
            (row["id"], row["sample"]): (gold_of(row["columns"]), (is_right(row, "direct"), is_right(row, "refined")))
            for row in _each(path)
        }


def _each(path: Path) -> Iterator[dict[str, Any]]:
    """Rows one by one: all rows of a large round at once take many times the room of their file."""
    for line in path.read_bytes().split(b"\n"):
        if line:
            yield json.loads(line)
