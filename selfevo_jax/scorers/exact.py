"""Answers that are a text of their own, compared after they are brought into one form."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal

from selfevo_jax.errors import shown
from selfevo_jax.scorers.base import NO_ANSWER, Fault, Grade, ScoredRow, ScorerSection
from selfevo_jax.text import normal, number_as_text


class Compared(ScorerSection):
    """How two texts are compared, and what the gold texts of a row are: the column `answer`, one text (or number) or a
    list of those that are right."""

    case: bool = False
    """Whether capitals count."""
    punctuation: bool = True
    """Whether punctuation counts."""
    articles: bool = True
    """Whether "a", "an" and "the" count."""

    def form(self, text: str) -> str:
        return normal(text, self.case, self.punctuation, self.articles)

    def golds(self, row: ScoredRow) -> list[str]:
        """In the form in which they are compared."""
        return [self.form(text) for text in self._golds(row)]

    def _golds(self, row: ScoredRow) -> list[str]:
        found = self.value(row, "answer")
        return [str(number_as_text(one)) for one in (found if isinstance(found, list) else [found])]

    def told(self, row: ScoredRow) -> dict[str, Any]:
        return {**row.columns, self.column("answer"): self._golds(row)[0]}

    def fault(self, row: ScoredRow) -> Fault | None:
        if (missing := self.missing(row, "answer")) is not None:
            return missing
        found, column = self.value(row, "answer"), self.column("answer")
        for one in found if isinstance(found, list) and found else [found]:
            try:
                text = number_as_text(one)
            except ValueError as error:
                return Fault(column, str(error))
            if not isinstance(text, str):
                return Fault(column, f"found {shown(found)}, expected a text, or a list of texts that are right")
            if not self.form(text):
                return Fault(column, f"found {shown(one)}, of which nothing is left to compare; fill it in")
        return None


class Exact(Compared):
    """Right is a text that is, as a whole, one of the gold texts."""

    kind: Literal["exact"] = "exact"

    def grade(self, row: ScoredRow, text: str) -> Grade:
        given = self.form(text)
        return Grade(float(given in self.golds(row))) if given else NO_ANSWER

    def key(self, row: ScoredRow, text: str) -> Hashable | None:
        return self.form(text) or None

    def hint(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> str | None:
        """Where more answers are wrong that have a gold text in them than are right, and these are a quarter of all."""
        right = inside = alone = 0
        for row, text in zip(rows, texts, strict=True):
            said, golds = self._words(text), [self._words(gold) for gold in self._golds(row)]
            if self.grade(row, text).right:
                right += 1
            elif said in golds:
                alone += 1
            else:
                inside += any(gold and f" {gold} " in f" {said} " for gold in golds)
        lost = inside + alone
        if lost <= right or 4 * lost < len(texts):
            return None
        of = f" ({alone} of them by their punctuation alone, which `punctuation: false` leaves out)" if alone else ""
        return (
            f"{lost} of {len(texts)} answers have the gold answer in them and count as wrong{of}, since the scorer "
            f"'{self.name}' takes the bare answer alone for right. Ask for it in format.respond and let D_meta's "
            "refinements be bare answers, or take a scorer that finds the answer in a sentence, such as regex"
        )

    def _words(self, text: str) -> str:
        return normal(text, self.case, False, self.articles)
