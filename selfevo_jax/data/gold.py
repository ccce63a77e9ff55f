"""Rows that answers are compared with: what cannot be scored is refused, or counted, by its row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfevo_jax.data.objects import lacking
from selfevo_jax.data.only import Selection, select
from selfevo_jax.data.sources import EvaluationRow, Tell, numbered_rows
from selfevo_jax.errors import DataError
from selfevo_jax.scorers import Scorer, faults_of


@dataclass(frozen=True)
class GoldRows:
    """Rows of an evaluation set."""

    rows: list[EvaluationRow]
    selection: Selection | None = None
    """Of the source's rows, where the setting `only` names some."""


@dataclass(frozen=True)
class KnownGold:
    """The gold answers in a file of prompts: to measure with, never needed."""

    rows: dict[str, EvaluationRow]
    """By the prompt's id, where it can be scored."""
    missing: int
    """Rows without an answer."""
    unscorable: tuple[str, ...]
    """What is wrong with each of the other rows, with file and line."""


def read_evaluation(
    source: str | os.PathLike[str],
    scorers: Sequence[Scorer],
    *,
    columns: Mapping[str, str] | None = None,
    only: Mapping[str, Sequence[Any]] | None = None,
    limit: int | None = None,
    tell: Tell | None = None,
) -> GoldRows:
    """Rows of an evaluation set.

    Args:
      source: as for `read_prompts`.
      scorers: each must be able to score each row.
      columns: our name of a field -> the file's.
      only: column -> values: rows with others are left out, and counted (see `select`).
      limit: rows to return at most.
      tell: as for `read_prompts`.

    Raises:
      DataError: as `read_prompts` and `select`; or a row that cannot be scored, by its line and column.
    """
    numbered = numbered_rows(source, EvaluationRow, 0, None if only else limit, columns or {}, tell=tell)
    selection = None
    if only:
        taken, selection = select(os.fspath(source), numbered, only)
        numbered = list(taken[:limit])
    rows = [row for _, row in numbered]
    for scorer in scorers:
        for (line, _), fault in zip(numbered, faults_of(scorer, rows), strict=True):
            if fault is not None:
                by = f" (for the scorer '{scorer.name}')" if len(scorers) > 1 else ""
                # a scorer has seen the columns of a row alone; of its fields there are more
                problem = lacking(source, line, fault.column) if fault.missing and fault.column else fault.problem
                raise DataError(os.fspath(source), line, fault.column, problem + by)
    return GoldRows(rows, selection)


def read_gold(
    source: str | os.PathLike[str],
    scorer: Scorer,
    *,
    columns: Mapping[str, str] | None = None,
    own: Mapping[str, str] | None = None,
) -> KnownGold:
    """What a file of prompts says of their answers. Errors: `read_prompts`; an answer is never one.

    Args:
      source: as for `read_prompts`.
      scorer: reads the answers.
      columns: our name of a field -> that of an evaluation set, whose ids and prompts are not this file's.
      own: our name of a field -> this file's.
    """
    others = {ours: theirs for ours, theirs in (columns or {}).items() if ours not in ("id", "prompt")}
    numbered = numbered_rows(source, EvaluationRow, columns=own or {}, perhaps=others)
    faults = faults_of(scorer, [row for _, row in numbered])
    unscorable = [
        str(DataError(os.fspath(source), line, fault.column, fault.problem))
        for (line, _), fault in zip(numbered, faults, strict=True)
        if fault is not None and not fault.missing
    ]
    known = {row.id: row for (_, row), fault in zip(numbered, faults, strict=True) if fault is None}
    return KnownGold(known, len(numbered) - len(known) - len(unscorable), tuple(unscorable))
