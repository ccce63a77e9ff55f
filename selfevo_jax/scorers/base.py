"""The seam between an evaluation and what its answers are: a scorer reads a text and grades it."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field, model_validator

from selfevo_jax.section import Section
from selfevo_jax.text import number_as_text


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
    """Demand -> whether it is met, for scorers of several demands; None: not scored. Of one kind the second demand is
    called `KIND#2`, and so on."""

    @property
    def right(self) -> bool | None:
        return None if self.value is None else self.value >= 1.0


NO_ANSWER, NOT_SCORED = Grade(0.0, answered=False), Grade(None)


@dataclass(frozen=True)
class Fault:
    """Why a row cannot be scored."""

    column: str | None
    """As the row calls it."""
    problem: str
    """'found ..., expected ...; what to do'."""
    missing: bool = False
    """The row has nothing in that column."""


class Scorer(Protocol):
    """Grades texts. It reads labels, so that nothing inside a round may ask it but a method that says so.

    It takes many rows at once, so that it may work on them side by side; what is at one place belongs together. It may
    have `votes`, `notice(rows)` and `hint(rows, texts)`, too (see `ScorerSection`).
    """

    @property
    def name(self) -> str:
        """As in reports."""
        ...

    def faults(self, rows: Sequence[ScoredRow]) -> list[Fault | None]:
        """Why each row cannot be scored; None where it can. Every row is asked before any work."""
        ...

    def grades(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Grade]:
        """One grade for each text."""
        ...

    def keys(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Hashable | None]:
        """Answers to one prompt with equal keys vote together, and have the same grade; None: no vote. Reads no
        label."""
        ...

    def spoil(self, row: ScoredRow, text: str, rng: random.Random) -> str | None:
        """A wrong answer made of one that is thought right, to see whether a judge finds it; None where that cannot be
        done. Reads no label."""
        ...


class ScorerSection(Section):
    """A scorer that is its own section of the config: its settings are the fields. A kind of scorer is a subclass with
    `grade`, and as it needs them `fault`, `key` and `spoil`; see `exact`, the smallest one."""

    in_words: ClassVar[str] = "a kind such as number, or a section such as {kind: choice, last: D}"
    short: ClassVar[str | None] = None
    """The setting that `{KIND: VALUE}` sets."""

    kind: str
    """`number`, `exact`, `choice`, `regex`, `constraints`, `math`, `python`, one of an installed package (entry
    points `selfevo_jax.scorers`), or `module:name`."""
    name: Annotated[str, Field(pattern=r"\S")] = ""
    """In reports; not given, it is the kind."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The scorer's word for a column -> the row's: `{answer: target}`."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, tree: Any) -> Any:
        kind = cls.model_fields["kind"]
        if not isinstance(tree, dict) or (kind.is_required() and "kind" not in tree):
            return tree
        return {"name": tree.get("kind", kind.default), **tree}

    @classmethod
    def written_out(cls, value: Any) -> Any:
        """From `number`, `{regex: PATTERN}` (and further settings) or `{choice: {last: D}}`."""
        if isinstance(value, str):
            return {"kind": value}
        if not isinstance(value, dict) or not value or "kind" in value:
            return value
        (kind, inner), *others = value.items()
        try:
            short = cls.of({"kind": kind}).short
        except ValueError:
            if others:
                return value  # a section that names no kind
            raise
        if isinstance(inner, dict):
            return {"kind": kind, **inner, **dict(others)}
        return value if short is None else {"kind": kind, short: inner, **dict(others)}

    @classmethod
    def of(cls, value: Any) -> type[Any]:
        from selfevo_jax.scorers.registry import section_of

        kind = value.get("kind") if isinstance(value, dict) else None
        return section_of(kind) if isinstance(kind, str) else cls

    def open(self, key: str) -> Scorer:
        """The scorer; `key` is the config's, for errors. Raises ConfigError where it cannot work here."""
        return self

    @property
    def cut(self) -> Callable[[str], str] | None:
        """What cuts off what runs on behind the end of an answer (an invented next question); None: nothing does."""
        return None

    @property
    def votes(self) -> bool:
        """Whether answers can vote: a kind without keys has none that do."""
        own = type(self)
        return own.key is not ScorerSection.key or own.keys is not ScorerSection.keys

    @property
    def code(self) -> str | None:
        """`module:name` of code of the user's that it runs."""
        return None

    def value(self, row: ScoredRow, column: str) -> Any:
        """What a row has in a column; None where it has nothing."""
        return row.columns.get(self.column(column))

    def column(self, column: str) -> str:
        """The row's word for a column."""
        return self.columns.get(column, column)

    def missing(self, row: ScoredRow, column: str) -> Fault | None:
        """The fault of a row without anything in a column."""
        if self.value(row, column) is not None:
            return None
        there = ", ".join(row.columns) or "none"
        name = self.column(column)
        remedy = "add it, or name another with `columns`"
        return Fault(name, f"is missing; the row has the columns: {there}; {remedy}", missing=True)

    def answer(self, row: ScoredRow) -> Any:
        """What a row has in the column `answer`, a number as its text; or the Fault of a row without one."""
        if (missing := self.missing(row, "answer")) is not None:
            return missing
        try:
            return number_as_text(self.value(row, "answer"))
        except ValueError as error:
            return Fault(self.column("answer"), str(error))

    def told(self, row: ScoredRow) -> dict[str, Any]:
        """The columns of a row that can be scored, as they are told to a model that is to know the answer: what is
        right in the words of an answer, one where several are."""
        gold = self.answer(row)
        return dict(row.columns) if isinstance(gold, Fault) else {**row.columns, self.column("answer"): gold}

    def fault(self, row: ScoredRow) -> Fault | None:
        return None

    def notice(self, rows: Sequence[ScoredRow]) -> str | None:
        """What the user should know before any work, with the counts (what cannot be scored here)."""
        return None

    def hint(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> str | None:
        """What the user should know of a checkpoint's answers, with the counts: that they are graded otherwise than is
        likely to be meant."""
        return None

    def grade(self, row: ScoredRow, text: str) -> Grade:
        raise NotImplementedError

    def key(self, row: ScoredRow, text: str) -> Hashable | None:
        return None

    def spoil(self, row: ScoredRow, text: str, rng: random.Random) -> str | None:
        return None

    def faults(self, rows: Sequence[ScoredRow]) -> list[Fault | None]:
        return [self.fault(row) for row in rows]

    def grades(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Grade]:
        return [self.grade(row, text) for row, text in zip(rows, texts, strict=True)]

    def keys(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Hashable | None]:
        return [self.key(row, text) for row, text in zip(rows, texts, strict=True)]
