"""The seam between an evaluation and what its answers are: a scorer reads a text and grades it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class ScoredRow(Protocol):
    """A row of an evaluation set: a prompt, and the columns that its scorers read (a gold answer, choices, tests)."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Grade:
    """What a scorer makes of a text."""

    value: float | None
    """From 0 to 1, which is right. None: it could not be scored (a time limit, a demand without its data); such a row
    is counted and in no share."""
    answered: bool = True
    """Whether the text gives an answer at all; one that gives none is not right, and counted."""
    parts: Mapping[str, bool | None] = field(default_factory=dict)
    """Demand -> whether it is met, for scorers of several demands; None: not scored."""

    @property
    def right(self) -> bool | None:
        return None if self.value is None else self.value >= 1.0


class Scorer(Protocol):
    """Grades texts. It reads labels, so that nothing inside a round may ask it but a method that says so."""

    @property
    def name(self) -> str:
        """As in the config and in reports."""
        ...

    def fault(self, row: ScoredRow) -> str | None:
        """Why the row cannot be scored: 'COLUMN: found ..., expected ...; what to do'. None where it can. Every row is
        asked before any work."""
        ...

    def grades(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Grade]:
        """One grade for each text, which answers the row at the same place."""
        ...

    def key(self, row: ScoredRow, text: str) -> Hashable | None:
        """Answers with equal keys vote together; None: the text has no vote."""
        ...
