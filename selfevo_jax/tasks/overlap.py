"""Prompts that are in two sets of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def check_overlap(evaluation: Mapping[str, Sequence[Prompt]], used: Mapping[str, Sequence[Prompt]]) -> None:
    """Raises DataError with the count when an evaluation prompt is also a prompt of the loop or of its data. Sets are
    named by their keys below `data`."""
    for name, rows in evaluation.items():
        for kind, others in used.items():
            if both := shared(others, rows):
                raise DataError(
                    f"data.{name}",
                    None,
                    "prompt",
                    f"{len(both)} of its {len(rows)} prompts are also in data.{kind} (such as "
                    f"{min(both)[:80]!r}); remove them from one of the two",
                )
