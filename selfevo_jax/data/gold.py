"""Gold answers that answers are compared with: those that cannot be scored are refused, or counted, by their rows."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pydantic import TypeAdapter

from selfevo_jax.data.sources import PromptRow, QARow, objects_of, our_names, read_rows, row_of, shown
from selfevo_jax.errors import DataError
from selfevo_jax.text import is_scorable


@dataclass(frozen=True)
class KnownGold:
    """The gold answers in a file of prompts: to measure with, never needed."""

    answers: dict[str, str]
    """Prompt id -> gold answer, where it can be scored."""
    missing: int
    """Rows without an answer."""
    unscorable: tuple[str, ...]
    """What is wrong with each of the other rows, with file and line."""


def read_scored(source: str | os.PathLike[str], *, limit: int | None = None) -> list[QARow]:
    """Rows whose gold answers are scored: as `read_qa`, and a gold answer that cannot be scored is a DataError too."""
    return read_rows(source, QARow, 0, limit, _check_gold)


def read_gold(source: str | os.PathLike[str]) -> KnownGold:
    """What a file of prompts says of their answers. Errors: `read_prompts`; an answer is never one."""
    answers: dict[str, str] = {}
    unscorable: list[str] = []
    missing = 0
    prompts, rows = TypeAdapter(PromptRow), TypeAdapter(QARow)
    name, objects = objects_of(source)
    for line, fields in objects:
        if our_names(fields).get("answer") is None:
            missing += 1
            continue
        id = row_of(name, line, fields, PromptRow, prompts).id
        try:
            row = row_of(name, line, fields, QARow, rows)
            _check_gold(name, line, row)
        except DataError as error:
            unscorable.append(str(error))
        else:
            answers[id] = row.answer
    return KnownGold(answers, missing, tuple(unscorable))


def _check_gold(name: str, line: int, row: QARow) -> None:
    if not is_scorable(row.answer):
        raise DataError(
            name,
            line,
            "answer",
            f"found {shown(row.answer)}, expected one number (18, -3/4, $1,250.50) or a worked solution that ends in "
            "'#### 18': answers are compared as numbers, and none would be right here; correct the row or remove it",
        )
