"""The steps of a response, and feedback that goes through them one by one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"^\s*(?:```|~~~)")
_OWN = re.compile(r"^[\s>#*_\-•]*(?:step\s+)?(\d{1,2})\s*[*_]*[.):][*_]*(?=\s|$)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+(?=[A-Z0-9\"'(\[$])")
_SAID = re.compile(
    r"^[ \t>#*_`\-•]*\(?step[\s#]+(\d+)[*_`\])]*\s*(?:[:.,)=–—-]|is\b)[\s*_`]*"
    r"(?:is\s+)?(?P<word>right|correct|wrong|incorrect|not (?:right|correct))?",
    re.IGNORECASE | re.MULTILINE,
)


def steps_of(response: str) -> list[str]:
    """The steps of a response: its own numbered ones, else its lines, else its sentences. Fenced code is one step.

    What stands before the first numbered step belongs to it.
    """
    lines = _lines(response)
    numbers = [(at, int(own[1])) for at, line in enumerate(lines) if (own := _OWN.match(line))]
    starts = [at for at, _ in numbers]
    if len(numbers) > 1 and [number for _, number in numbers] == list(range(1, len(numbers) + 1)):
        bounds = [0, *starts[1:], len(lines)]
        return ["\n".join(lines[a:b]) for a, b in itertools.pairwise(bounds)]
    if len(lines) > 1:
        return lines
    text = response.strip()
    ends = [0, *(end.end() for end in _SENTENCE_END.finditer(text)), len(text)]
    return [text[a:b].strip() for a, b in itertools.pairwise(ends) if text[a:b].strip()]


def _lines(text: str) -> list[str]:
    """Lines that say something; a fenced block is one."""
    found: list[str] = []
    fenced = False
    for line in text.strip().split("\n"):
        mark = _FENCE.match(line) is not None
        if fenced:
            found[-1] += f"\n{line}"
        elif line.strip():
            found.append(line)
        fenced = fenced != mark
    return found


def numbered(steps: Sequence[str]) -> str:
    """The steps as an annotator is shown them."""
    return "\n".join(f"[{number}] {step}" for number, step in enumerate(steps, 1))


@dataclass(frozen=True)
class StepReading:
    """What feedback says of a response's steps."""

    wrong: int | None
    """The first step that it calls wrong, from 1."""


def read_steps(feedback: str, steps: int, good: bool) -> StepReading | str:
    """What is said of each step, or why feedback does not follow a response of so many steps.

    It has a line for each step from the first on, in their order, and none for another; where the response is good, for
    all of them, and none is wrong.
    """
    said = [(int(line[1]), (line["word"] or "").lower()) for line in _SAID.finditer(feedback)]
    numbers = [number for number, _ in said]
    if not numbers:
        return "follows no step"
    if numbers != list(range(1, len(numbers) + 1)):
        return "steps out of order"
    if len(numbers) > steps:
        return "a step that is not there"
    wrong = next((n for n, word in said if word in ("wrong", "incorrect") or word.startswith("not ")), None)
    if good and wrong is not None:
        return "a wrong step, and a good verdict"
    if good and len(numbers) < steps:
        return "steps left out"
    return StepReading(wrong)
