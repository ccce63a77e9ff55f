"""Answers that are there already, such as another model's, put beside the prompts that they answer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from selfevo_jax.data.fields import our_names, renamed
from selfevo_jax.data.objects import objects_of
from selfevo_jax.data.sources import PromptRow
from selfevo_jax.errors import DataError, shown
from selfevo_jax.text import number_as_text, utf8

ANSWERS = ("response", "answer", "output", "text")
"""The fields that an answer may have, in the order in which they are looked for."""


def read_answers(
    source: str | os.PathLike[str],
    prompts: Sequence[PromptRow],
    columns: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Prompt id -> the answer to it, for every prompt.

    A row belongs to the prompt of its `id` (`question_id`, `idx`), or, where no row has one, to that of its text. Its
    answer is in one of ANSWERS, or in FastChat's `choices` (the first turn of the first choice). `columns`: our name of
    a field -> the file's.

    Raises:
      DataError: a row without an answer, two answers to one prompt, or prompts without one, with their number.
    """
    name, objects = objects_of(source)
    rows = [(line, our_names(renamed(fields, columns))) for line, fields in objects]
    by_id = any(_id(fields) is not None for _, fields in rows)
    keys: dict[str, list[str]] = {}
    for row in prompts:  # several may have one text
        keys.setdefault(row.id if by_id else _plain(row.prompt), []).append(row.id)
    found: dict[str, str] = {}
    for line, fields in rows:
        key = _id(fields) if by_id else _plain(prompt if isinstance(prompt := fields.get("prompt"), str) else "")
        if key is None or key not in keys:
            continue  # an answer to another prompt
        if keys[key][0] in found:
            raise DataError(name, line, None, f"a second answer to the prompt '{keys[key][0]}'; keep one of them")
        found |= dict.fromkeys(keys[key], _answer(name, line, fields))
    missing = [row for row in prompts if row.id not in found]
    if missing:
        how = "id" if by_id else "prompt"
        raise DataError(
            name,
            None,
            how,
            f"{len(missing)} of the {len(prompts)} prompts have no answer here (such as '{missing[0].id}', "
            f"{missing[0].prompt[:60]!r}); give one for each, with the {how} of its prompt",
        )
    return found


def _id(fields: Mapping[str, Any]) -> str | None:
    id = next((fields[key] for key in ("id", "question_id", "idx") if fields.get(key) not in (None, "")), None)
    try:
        return None if id is None else str(number_as_text(id))
    except ValueError:
        return str(id)  # infinite: no prompt has it


def _plain(prompt: str) -> str:
    return " ".join(prompt.split())


def _written(name: str, line: int, field: str, text: str) -> str:
    try:
        return utf8(text)
    except ValueError as error:
        raise DataError(name, line, field, str(error)) from None


def _answer(name: str, line: int, fields: Mapping[str, Any]) -> str:
    for field in ANSWERS:
        if isinstance(fields.get(field), str):
            return _written(name, line, field, fields[field])
    choices = fields.get("choices")
    try:
        if choices and isinstance(text := choices[0]["turns"][0], str):
            return _written(name, line, "choices", text)
    except (KeyError, IndexError, TypeError):
        raise DataError(name, line, "choices", f"found {shown(choices)}, expected the turns of an answer") from None
    raise DataError(name, line, ANSWERS[0], f"no answer in the row; expected text in one of {', '.join(ANSWERS)}")
