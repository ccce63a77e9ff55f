"""Calls of scorers, whose code may not be ours: where it fails, or gives what it should not, the row is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from selfevo_jax.errors import DataError, SelfevoError, first_line, shown
from selfevo_jax.scorers.base import Fault, Grade, ScoredRow, Scorer


def called(
    name: str,
    call: Callable[[Sequence[ScoredRow], Sequence[str]], Any],
    rows: Sequence[ScoredRow],
    texts: Sequence[str],
    lacking: str = "",
) -> Any:
    """What `call(rows, texts)` gives. Raises DataError, with the name and the first row on which it fails alone;
    `lacking`: what is to be done where that is for want of a column."""
    try:
        return call(rows, texts)
    except SelfevoError:
        raise
    except Exception as error:
        where, cause, remedy = "all rows together", error, ""
        for row, text in zip(rows, texts, strict=True):
            try:
                call([row], [text])
            except Exception as alone:
                where, cause = f"row '{row.id}'", alone
                if isinstance(alone, KeyError) and str(*alone.args[:1]) not in row.columns:
                    remedy = lacking
                break
        problem = f"fails on {where}: {type(cause).__name__}: {first_line(cause)}{remedy}"
        raise DataError(name, None, None, problem) from error


_LACKING = "; the row has no such column. Let `faults` say so: a prompt of a round without it is then not graded"


def faults_of(scorer: Scorer, rows: Sequence[ScoredRow]) -> list[Fault | None]:
    """`scorer.faults`, as it should be; errors: `called`, and DataError for anything else than its form."""

    def call(rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Fault | None]:
        return scorer.faults(rows)

    return _each(scorer, "faults", call, rows, [""] * len(rows), _is_fault, "a Fault or None")


def grades_of(scorer: Scorer, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Grade]:
    """`scorer.grades`; errors: `faults_of`."""
    return _each(scorer, "grades", scorer.grades, rows, texts, _is_grade, "a Grade from 0 to 1")


def keys_of(scorer: Scorer, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Hashable | None]:
    """`scorer.keys`; errors: `faults_of`."""
    return _each(scorer, "keys", scorer.keys, rows, texts, _is_key, "a value that can be hashed")


def spoiled(scorer: Scorer, row: ScoredRow, text: str, rng: random.Random) -> str | None:
    """`scorer.spoil`; errors: `faults_of`."""
    (found,) = _each(
        scorer,
        "spoiled answers",
        lambda rows, texts: [scorer.spoil(rows[0], texts[0], rng)],
        [row],
        [text],
        lambda one: one is None or type(one) is str,
        "a text",
    )
    return found


def _each(
    scorer: Scorer,
    what: str,
    call: Callable[[Sequence[ScoredRow], Sequence[str]], Any],
    rows: Sequence[ScoredRow],
    texts: Sequence[str],
    is_one: Callable[[Any], bool],
    wanted: str,
) -> list[Any]:
    name = f"scorer '{scorer.name}'"

    def listed(rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Any]:
        return list(call(rows, texts))

    found: list[Any] = called(name, listed, rows, texts, _LACKING)
    if len(found) != len(rows):
        raise DataError(name, None, None, f"found {len(found)} {what} for {len(rows)} rows, expected one for each")
    for row, one in zip(rows, found, strict=True):
        if not is_one(one):
            problem = f"found {shown(one)} among its {what} (row '{row.id}'), expected {wanted}"
            raise DataError(name, None, None, problem)
    return found


def _is_fault(one: Any) -> bool:
    return one is None or (hasattr(one, "column") and hasattr(one, "problem") and hasattr(one, "missing"))


def _is_grade(one: Any) -> bool:
    value = getattr(one, "value", "")
    return hasattr(one, "answered") and (value is None or (isinstance(value, int | float) and 0 <= value <= 1))


def _is_key(one: Any) -> bool:
    try:
        hash(one)
    except TypeError:
        return False
    return True
