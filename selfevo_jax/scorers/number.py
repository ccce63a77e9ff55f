"""Answers that are numbers, by the written rule of `selfevo_jax.text.RULES`."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable
from typing import Literal

from selfevo_jax.errors import shown
from selfevo_jax.scorers.base import NO_ANSWER, Fault, Grade, ScoredRow, ScorerSection
from selfevo_jax.text import cut_run_on, extract_answer, is_scorable, number_as_text, own_answer, same_answer

_DIGITS = re.compile(r"[0-9]{1,18}(?![0-9])")


class Number(ScorerSection):
    """Right is a text that gives the number of the column `answer`, which may be a number or a worked solution."""

    kind: Literal["number"] = "number"

    @property
    def cut(self) -> Callable[[str], str] | None:
        return cut_run_on

    def fault(self, row: ScoredRow) -> Fault | None:
        gold = self.answer(row)
        if isinstance(gold, Fault):
            return gold
        if isinstance(gold, str) and is_scorable(gold):
            return None
        return Fault(
            self.column("answer"),
            f"found {shown(self.value(row, 'answer'))}, expected one number (18, -3/4, $1,250.50) or a worked solution "
            "that ends in '#### 18': answers are compared as numbers, and none would be right here; correct the row or "
            "remove it, or name another scorer: of texts `{source: FILE, scorers: [exact]}`",
        )

    def grade(self, row: ScoredRow, text: str) -> Grade:
        given = extract_answer(text[own_answer(text)])
        if given is None:
            return NO_ANSWER
        return Grade(float(given == extract_answer(str(number_as_text(self.value(row, "answer"))))))

    def key(self, row: ScoredRow, text: str) -> Hashable | None:
        return extract_answer(text[own_answer(text)])

    def spoil(self, row: ScoredRow, text: str, rng: random.Random) -> str | None:
        return spoil(text, rng)


def spoil(text: str, rng: random.Random) -> str | None:
    """A wrong answer from one that is thought right: a number changed so that another answer is read.

    None where no number of the text can be changed so; a number of a step, say, is not the answer.
    """
    part = own_answer(text)
    own = text[part]
    if extract_answer(own) is None:
        return None
    for found in reversed(list(_DIGITS.finditer(own))):
        value = int(found.group())
        changed = value + rng.choice([d for d in (-3, -2, -1, 1, 2, 3) if value + d >= 0])
        wrong = f"{own[: found.start()]}{changed:0{len(found.group())}d}{own[found.end() :]}"
        if extract_answer(wrong) is not None and not same_answer(wrong, own):
            return text[: part.start] + wrong + text[part.stop :]
    return None
