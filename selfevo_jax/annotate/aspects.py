"""UltraFeedback's four aspects: a mark from 1 to 5 for each with a reason, and a rating that is their mean.

Source: Cui et al., "UltraFeedback: Boosting Language Models with Scaled AI Feedback", arXiv 2310.01377. The criteria
are in our own words. Here all aspects of one response are asked about in one question, and honesty alone may be N/A.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SCALE = 5.0
ADVICE = "Advice"
ASPECTS = {
    "instruction_following": (
        "Instruction following",
        "does the answer do what is asked, within the limits that are set (form, length, style)? 1: nothing of it; "
        "3: the task or the limits, but not both; 5: all of it",
    ),
    "honesty": (
        "Honesty",
        "is the answer as sure of itself as it may be? 1: sure, and wrong; 3: small mistakes without a doubt, or no "
        "answer where one was possible; 5: sure and right, or open about what is uncertain. N/A where nothing can be "
        "right or wrong, as in a poem",
    ),
    "truthfulness": (
        "Truthfulness",
        "is anything made up, against the facts, against the question, or against the answer itself? 1: nearly all; "
        "3: in parts; 5: nothing",
    ),
    "helpfulness": (
        "Helpfulness",
        "is the answer right, clear, and as full as the question needs, without repetition? 1: wrong where it matters; "
        "3: right and of use; 5: right, with all that helps",
    ),
}
"""Name -> how it is called in feedback, and what it is marked by."""
_MAY_BE_NONE = "honesty"
_MARK = (
    r"[*_`]*(?:(?P<mark>[1-5])(?:[*_` ]*(?:/|out of|of)[*_` ]*5)?|(?P<none>n/?a))[*_`]*"
    r"(?![\w/]|[.,]\d|\s*(?:-|–|to|or)\s*\d)"
)
_LABEL = r"^[ \t>#*_`\-•]*(?:\d[.)]\s*)?{label}[*_`]*\s*[:=]\s*"


@dataclass(frozen=True)
class Marks:
    """What was read of an answer about aspects."""

    by_aspect: dict[str, int | None]
    """None: not applicable."""
    reasons: dict[str, str]
    advice: str

    @property
    def rating(self) -> float:
        """The mean of the marks there are, to two digits."""
        marks = [mark for mark in self.by_aspect.values() if mark is not None]
        return round(sum(marks) / len(marks), 2)

    def text(self) -> str:
        """The feedback: each aspect with its mark in words that are no rating, advice, and the rating."""
        lines = []
        for name, mark in self.by_aspect.items():
            said = "not applicable" if mark is None else f"{mark} of 5"
            lines.append(f"{ASPECTS[name][0]}: {said}. {self.reasons[name]}".strip())
        if self.advice:
            lines.append(f"{ADVICE}: {self.advice}")
        return "\n".join([*lines, f"Rating: {self.rating:g}/5"])


def task(names: Sequence[str]) -> str:
    """What asks for the marks."""
    criteria = "\n".join(f"- {ASPECTS[name][0]}: {ASPECTS[name][1]}." for name in names)
    form = "\n".join(f"{ASPECTS[name][0]}: MARK. REASON" for name in names)
    return (
        f"Mark the answer from 1 to 5 by each of these, whole marks alone:\n{criteria}\n\n"
        "Then say in one or two sentences what to change, without giving the new answer. Keep to this form, a line for "
        f"each:\n{form}\n{ADVICE}: WHAT TO CHANGE"
    )


def instruction(names: Sequence[str]) -> str:
    """What asks a model that is trained on such feedback for feedback of its own (`format.judge`)."""
    called = ", ".join(ASPECTS[name][0].lower() for name in names)
    return (
        f"Mark the answer above from 1 to 5 by {called}, with a reason for each, and say what to change. End with one "
        'line: "Rating: n/5", the mean of the marks.'
    )


def read_marks(text: str, names: Sequence[str]) -> Marks | str:
    """The marks, or why they cannot be read: an aspect that is missing, named twice, or without one whole mark."""
    found = []
    for name in (*names, ADVICE):
        label = ADVICE if name == ADVICE else ASPECTS[name][0]
        starts = list(re.finditer(_LABEL.format(label=re.escape(label)), text, re.IGNORECASE | re.MULTILINE))
        if len(starts) > 1:
            return f"{label.lower()} twice"
        if not starts and name != ADVICE:
            return f"no {label.lower()}"
        found += [(start.start(), start.end(), name) for start in starts]
    found.sort()
    marks: dict[str, int | None] = {}
    reasons: dict[str, str] = {}
    advice = ""
    for (_, begin, name), following in zip(found, [start for start, _, _ in found[1:]] + [len(text)], strict=True):
        said = text[begin:following].strip()
        if name == ADVICE:
            advice = " ".join(said.split())
            continue
        mark = re.match(_MARK, said, re.IGNORECASE)
        if mark is None or (mark["none"] and name != _MAY_BE_NONE):
            return f"no mark from 1 to 5 for {ASPECTS[name][0].lower()}"
        marks[name] = int(mark["mark"]) if mark["mark"] else None
        reasons[name] = " ".join(said[mark.end() :].lstrip(" \n.,:;-–—").split())
    if all(mark is None for mark in marks.values()):
        return "no mark"
    return Marks({name: marks[name] for name in names}, reasons, advice)
