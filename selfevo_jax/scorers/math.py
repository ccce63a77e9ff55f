"""Answers that are mathematical expressions, compared by the package `math-verify` (sympy)."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from selfevo_jax.errors import ConfigError, shown
from selfevo_jax.lazy import install
from selfevo_jax.scorers.base import NO_ANSWER, NOT_SCORED, Fault, Grade, ScoredRow, Scorer, ScorerSection
from selfevo_jax.scorers.workers import Late, workers
from selfevo_jax.text import own_part, without_working

_CHILD = Path(__file__).with_name("math_child.py")
_MARKED = re.compile(r"\$|\\\(|\\\[|\\boxed|\\begin")
_IN_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{4,}")
_PROCESSES = 8


class Math(ScorerSection):
    """Right is a text whose expression equals that of the column `answer`: LaTeX, with or without its dollar signs, or
    a worked solution that ends in '#### 18'. What the text only thinks before its answer (<think>...</think>) is not
    read.

    What takes more than `seconds`, or fails, be it to be read or to be compared, is not scored. Answers vote together
    where they are written alike after sympy has read them.
    """

    kind: Literal["math"] = "math"
    seconds: Annotated[float, Field(gt=0.0, le=600.0)] = 5.0
    """For one text."""
    processes: Annotated[int, Field(gt=0)] | None = None
    """That work side by side; None takes as many as there are cores, 8 at most."""

    def open(self, key: str) -> Scorer:
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError(f"{key}: math needs the package math-verify: {install('math')}")
        return self

    def faults(self, rows: Sequence[ScoredRow]) -> list[Fault | None]:
        golds = [self._gold(row) for row in rows]
        read = self._asked([{"gold": gold} for gold in golds if isinstance(gold, str)])
        answers = iter(read)
        return [
            gold if isinstance(gold, Fault) else self._fault(row, next(answers))
            for row, gold in zip(rows, golds, strict=True)
        ]

    def grades(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Grade]:
        asked = [{"gold": self._gold(row), "text": text[own_part(text)]} for row, text in zip(rows, texts, strict=True)]
        return [_grade(found) for found in self._asked(asked)]

    def keys(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Hashable | None]:
        found = self._asked([{"text": text[own_part(text)]} for text in texts])
        return [None if isinstance(one, Late) else one["read"] for one in found]

    def _asked(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        count = self.processes or min(_PROCESSES, os.cpu_count() or 1)
        return workers(_CHILD, count).map(requests, self.seconds)

    def _gold(self, row: ScoredRow) -> str | Fault:
        """What `math-verify` is given to read."""
        gold = self.answer(row)
        if isinstance(gold, Fault):
            return gold
        text = without_working(gold) if isinstance(gold, str) else ""
        if not text or (not _MARKED.search(text) and _WORD.search(_IN_WORDS.sub("", text))):
            return self._no_expression(row)
        return text if _MARKED.search(text) else f"${text}$"

    def _fault(self, row: ScoredRow, found: Any) -> Fault | None:
        if isinstance(found, Late):
            problem = (
                f"found {shown(self.value(row, 'answer'))}, which takes more than {self.seconds:g} seconds to read"
            )
            return Fault(self.column("answer"), f"{problem}; simplify it, or remove the row")
        return None if found["read"] is not None else self._no_expression(row)

    def _no_expression(self, row: ScoredRow) -> Fault:
        return Fault(
            self.column("answer"),
            f"found {shown(self.value(row, 'answer'))}, expected an expression in LaTeX, such as \\frac{{1}}{{2}} or "
            "$x^2$ (words as \\text{...}); correct the row or remove it, or name another scorer",
        )


def _grade(found: Any) -> Grade:
    if isinstance(found, Late) or found["failed"]:
        return NOT_SCORED
    return NO_ANSWER if found["read"] is None else Grade(float(found["right"]))
