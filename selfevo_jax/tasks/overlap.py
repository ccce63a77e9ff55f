"""Prompts that are in two sets of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from selfevo_jax.errors import DataError


class Prompt(Protocol):
    """What rows of all kinds have."""

    @property
    def prompt(self) -> str: ...


def plain(prompt: str) -> str:
    return " ".join(prompt.split())


def shared(rows: Sequence[Prompt], others: Sequence[Prompt]) -> list[str]:
    """The prompts of `others`, one a row, that are among those of `rows`, whatever their white space."""
    known = {plain(row.prompt) for row in rows}
    return [text for row in others if (text := plain(row.prompt)) in known]


_FEW = 4
"""Words of a prompt that says the same within a longer one; fewer may be part of anything."""


def within(rows: Sequence[Prompt], others: Sequence[Prompt]) -> list[str]:
    """The prompts of `others`, one a row, that are those of `rows` or part of one (such as a base instruction with
    demands behind it), whatever their case and white space."""
    known = {plain(row.prompt).casefold() for row in rows}
    whole = "\n".join(sorted(known))

    def is_there(text: str) -> bool:
        return text in known or (len(text.split()) >= _FEW and text in whole)

    return [text for row in others if is_there((text := plain(row.prompt)).casefold())]


def check_held_out(name: str, rows: Sequence[Prompt], used: Mapping[str, Sequence[Prompt]]) -> None:
    """Raises DataError with the count when a prompt of held-out rows is one, or part of one, that is trained on. They
    are named by their keys below `data`."""
    for kind, others in used.items():
        if both := within(others, rows):
            raise _overlap(name, kind, both, len(rows))


def check_overlap(
    evaluation: Mapping[str, Sequence[Prompt]],
    used: Mapping[str, Sequence[Prompt]],
    files: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raises DataError with the count when an evaluation prompt is also a prompt of the loop or of its data. Sets are
    named by their keys below `data`; `files`: what is read there, by whole keys."""
    for name, rows in evaluation.items():
        for kind, others in used.items():
            if both := shared(others, rows):
                raise _overlap(name, kind, both, len(rows), files)


def _overlap(
    name: str, kind: str, both: Sequence[str], rows: int, files: Mapping[str, str] = MappingProxyType({})
) -> DataError:
    file, other = (files.get(f"data.{key}") for key in (name, kind))
    of = "" if other is None else f"{other}, "
    remedy = (
        "both are one file; name another for one of the two"
        if file is not None and file == other
        else "remove them from one of the two"
    )
    problem = f"{len(both)} of its {rows} prompts are also in data.{kind} ({of}such as {min(both)[:80]!r}); {remedy}"
    return DataError(f"data.{name}" + ("" if file is None else f" ({file})"), None, "prompt", problem)
