"""Word problems whose solution is an equation, such as SVAMP's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from selfevo_jax.data.objects import lacking
from selfevo_jax.data.sources import EvaluationRow, numbered_rows
from selfevo_jax.errors import DataError, shown
from selfevo_jax.tasks.solutions.worked import Sum, format_number, work_out
from selfevo_jax.text import extract_answer, number_as_text

EQUATION, ANSWER = "equation", "answer"
"""Columns; SVAMP calls them `Equation` and `Answer`."""


@dataclass(frozen=True)
class Problem:
    """A problem with its solution."""

    id: str
    prompt: str
    sums: tuple[Sum, ...]
    """In the order in which they are worked out."""
    answer: Fraction


@dataclass(frozen=True)
class Problems:
    """Those of a file that can be used, and what is wrong with the others."""

    usable: list[Problem]
    faults: tuple[str, ...]
    """Each with file, line and column."""

    def notice(self, key: str) -> str | None:
        """What the user should know of them; `key` is the config's."""
        if not self.faults:
            return None
        rows = len(self.usable) + len(self.faults)
        return f"{len(self.faults)} of the {rows} rows of {key} are not used (the first: {self.faults[0]})"


def read_problems(source: str, columns: Mapping[str, str] = MappingProxyType({})) -> Problems:
    """Problems `{prompt, equation, answer}`, or SVAMP's rows.

    Rows without a sum, or whose sum is not the answer, are not used.

    Args:
      source: a path or the name of a shipped slice.
      columns: our name of a field -> the file's.

    Raises:
      DataError: as `read_prompts`; a row without one of the columns; no row that can be used.
    """
    usable, faults = [], []
    for line, row in numbered_rows(source, EvaluationRow, columns=columns):
        found = _problem(source, line, row)
        if isinstance(found, Problem):
            usable.append(found)
        else:
            faults.append(str(found))
    if not usable:
        raise DataError(source, None, EQUATION, f"none of its {len(faults)} rows can be used (the first: {faults[0]})")
    return Problems(usable, tuple(faults))


def _problem(source: str, line: int, row: EvaluationRow) -> Problem | DataError:
    for column in (EQUATION, ANSWER):
        if row.columns.get(column) is None:
            raise DataError(source, line, column, lacking(source, line, column))
    equation, given = row.columns[EQUATION], row.columns[ANSWER]
    wanted = f"found {shown(equation)}, expected a sum such as '(8 - 3) * 2'"
    try:
        value, sums = work_out(str(equation))
    except ValueError as error:
        return DataError(source, line, EQUATION, f"{wanted}: {error}")
    if not sums:
        return DataError(source, line, EQUATION, wanted)
    try:
        answer = extract_answer(str(number_as_text(given)))
    except ValueError as error:
        return DataError(source, line, ANSWER, str(error))
    if value != answer:
        return DataError(source, line, ANSWER, f"found {shown(given)}, but {equation} is {format_number(value)}")
    return Problem(row.id, row.prompt, tuple(sums), value)


def results(problem: Problem) -> Sequence[Fraction]:
    """Those of all sums; the last one is the answer."""
    return [done.value for done in problem.sums]
