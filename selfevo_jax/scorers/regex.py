"""Answers that a pattern finds."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from selfevo_jax.scorers.base import NO_ANSWER, NOT_SCORED, Grade, ScoredRow
from selfevo_jax.scorers.exact import Compared
from selfevo_jax.scorers.workers import Late, workers

_CHILD = Path(__file__).with_name("regex_child.py")


def _with_a_group(pattern: str) -> str:
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"found '{pattern}', which is no pattern ({error})") from None
    if found.groups != 1 and "answer" not in found.groupindex:
        raise ValueError(
            f"found '{pattern}' with {found.groups} groups, expected one, or one that is named (?P<answer>...); groups "
            "that are not the answer begin with (?:"
        )
    return pattern


class Regex(Compared):
    """Right is a text in which the group of the pattern's last match is one of the gold texts.

    A text on which the pattern takes more than `seconds` is not scored; after twenty of them, where they are half of
    all, no further one is tried. The pattern sees the whole text, with what is only thought before the answer: it may
    name the mark that closes that.
    """

    short: ClassVar[str | None] = "pattern"

    kind: Literal["regex"] = "regex"
    pattern: Annotated[str, AfterValidator(_with_a_group)]
    """In Python's syntax, with one group (or one named `answer`)."""
    seconds: Annotated[float, Field(gt=0.0, le=60.0)] = 1.0
    """For one text."""

    def grades(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Grade]:
        return [self._grade(row, given) for row, given in zip(rows, self._found(texts), strict=True)]

    def _grade(self, row: ScoredRow, given: str | Late) -> Grade:
        if isinstance(given, Late):
            return NOT_SCORED
        return Grade(float(given in self.golds(row))) if given else NO_ANSWER

    def keys(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Hashable | None]:
        return [given if isinstance(given, str) and given else None for given in self._found(texts)]

    def _found(self, texts: Sequence[str]) -> list[str | Late]:
        """What the group holds, in the form in which it is compared; empty where nothing was found."""
        found = workers(_CHILD).map([{"pattern": self.pattern, "text": text} for text in texts], self.seconds)
        return [one if isinstance(one, Late) else self.form(one or "") for one in found]
