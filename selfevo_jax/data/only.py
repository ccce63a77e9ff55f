"""The rows of an evaluation set that have certain values in their columns; those that have others are counted."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfevo_jax.data.objects import fields_at
from selfevo_jax.data.sources import EvaluationRow
from selfevo_jax.errors import DataError, shown

Numbered = Sequence[tuple[int, EvaluationRow]]
"""Rows with their lines."""


@dataclass(frozen=True)
class Selection:
    """What the setting `only` takes of the rows of a source."""

    taken: int
    of: int
    columns: list[str]
    """By which."""

    def __str__(self) -> str:
        return selected(self.taken, self.of, self.columns)


def selected(taken: int, of: int, columns: Sequence[str]) -> str:
    """In words."""
    return f"{taken} of {of} rows; {of - taken} have other values of {' or '.join(columns)}"


def select(source: str, rows: Numbered, only: Mapping[str, Sequence[Any]]) -> tuple[Numbered, Selection]:
    """The rows whose value in each column is one of those named; of a list all values must be.

    Args:
      source: as messages call it.
      rows: all rows of the source.
      only: column, as scorers see it -> values.

    Raises:
      DataError: a row has no such column, no row has one of the values, or none is taken.
    """
    for column, wanted in only.items():
        seen = {_key(value): value for line, row in rows for value in _values(source, line, row, column)}
        for value in wanted:
            if _key(value) not in seen:
                near = difflib.get_close_matches(str(value), map(str, seen.values()), n=1)
                there = ", ".join(map(shown, list(seen.values())[:30])) + (", ..." if len(seen) > 30 else "")
                meant = f"did you mean '{near[0]}'?" if near else f"there are {there}"
                raise DataError(source, None, column, f"`only` names {shown(value)}, which no row has; {meant}")
    known = {column: set(map(_key, wanted)) for column, wanted in only.items()}
    taken = [
        (line, row)
        for line, row in rows
        if all({_key(value) for value in _values(source, line, row, column)} <= known[column] for column in only)
    ]
    if not taken:
        problem = f"`only` takes none of its {len(rows)} rows: each has another value beside those named; name more"
        raise DataError(source, None, " and ".join(only), problem)
    return taken, Selection(len(taken), len(rows), list(only))


def _values(source: str, line: int, row: EvaluationRow, column: str) -> Sequence[Any]:
    value = row.columns.get(column)
    if value is None:
        there = fields_at(source, line)
        raise DataError(source, line, column, f"is missing; `only` names it, but the row has the fields: {there}")
    return value if isinstance(value, list | tuple) else [value]


def _key(value: Any) -> str:
    """Equal for values that are the same in JSON: 1 and 1.0 are, 1 and true are not."""
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
