"""What an annotator's answers say. What cannot be read for certain is a reason, and never a row."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from selfevo_jax.annotate.aspects import read_marks
from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.annotate.steps import read_steps
from selfevo_jax.judges import ChainJudge
from selfevo_jax.judges.endpoint import Answer
from selfevo_jax.text import behind_thinking

CUT, EMPTY, THOUGHT = "cut at the limit", "empty", "thinking alone"
"""Why a text is no row."""
_REFERENCE = re.compile(r"\breference (?:answer|solution)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Feedback:
    """Feedback that was read."""

    text: str
    good: bool
    step: int | None = None
    """The first step that it calls wrong, from 1."""


def read_text(answer: Answer) -> tuple[str | None, str]:
    """The text of an answer without what the model thought before it; or None, and why there is none."""
    if answer.error is not None:
        return None, answer.error
    if not answer.whole:
        return None, CUT if answer.finish == "length" else f"ended by {answer.finish}"
    begin = behind_thinking(answer.text)
    if begin is None:
        return None, THOUGHT
    text = answer.text[begin:].strip()
    return (text, "") if text else (None, EMPTY)


def has_text(_: str, answer: Answer) -> bool:
    """Whether the answer to a question, of whatever key, holds a text."""
    return read_text(answer)[0] is not None


def read_feedback(section: AnnotateSection, answer: Answer, steps: int) -> Feedback | str:
    """Feedback on a response of so many steps, or why it cannot be used."""
    text, why = read_text(answer)
    if text is None:
        return why
    if section.reference and _REFERENCE.search(text):
        return "speaks of the reference answer"
    if section.aspects:
        marks = read_marks(text, section.aspects)
        if isinstance(marks, str):
            return marks
        text, rating = marks.text(), marks.rating
        if section.judge.read(text).rating != rating:
            return "another rating in the reasons"
    said = section.judge.read(text)
    if said.good is None:
        return "no rating" if section.rated else "no verdict"
    if said.end is not None:
        text = text[: said.end].rstrip()
        if section.judge.read(text).good is not said.good:
            return "no rating" if section.rated else "no verdict"
    if not section.stepwise:
        return Feedback(text, said.good)
    read = read_steps(text, steps, said.good and not section.rated)
    return read if isinstance(read, str) else Feedback(text, said.good, None if said.good else read.wrong)


def refinement_reader(judge: ChainJudge) -> Callable[[Answer, str], tuple[str | None, str]]:
    """Reads a refinement of a response: its text; or None, and why it cannot be used."""
    marks = [re.compile(rf"(?<!\w){re.escape(mark)}", re.IGNORECASE) for mark in judge.marks]

    def read(answer: Answer, response: str) -> tuple[str | None, str]:
        text, why = read_text(answer)
        if text is None:
            return None, why
        if text == response.strip():
            return None, "the response again"
        if any(mark.search(text) and not mark.search(response) for mark in marks):
            return None, "feedback in it"
        return text, ""

    return read
