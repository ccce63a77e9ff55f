"""Which fields of a user's rows are which: by their names, and by what is in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from selfevo_jax.data.fields import our_names, renamed
from selfevo_jax.data.objects import objects_of
from selfevo_jax.errors import DataError

LOOKED_AT = 200
"""Rows whose fields are looked at."""
PROMPT, ANSWER = "prompt", "answer"
META = ("prompt", "response", "feedback", "refinement", "good")
OTHER_NAMES = {
    "prompt": (
        "question",
        "problem",
        "query",
        "input",
        "task",
        "request",
        "instruction_text",
        "user",
        "text",
        "content",
    ),
    "answer": (
        "target",
        "gold",
        "gold_answer",
        "final_answer",
        "reference",
        "reference_answer",
        "expected",
        "solution",
        "label",
        "output",
        "completion",
        "response",
    ),
    "response": ("answer", "draft", "attempt", "initial_response", "first_response", "output", "completion"),
    "feedback": ("critique", "criticism", "review", "judgement", "judgment", "comment"),
    "refinement": ("revision", "revised", "refined", "refined_response", "refined_answer", "improved", "corrected"),
    "good": ("correct", "is_correct", "is_good", "right", "accepted"),
}
"""What others call our fields, the likeliest first; capitals and hyphens do not count."""


@dataclass(frozen=True)
class Fields:
    """The first rows of a source."""

    source: str
    names: tuple[str, ...]
    """Of the fields, in the order in which they come."""
    rows: Sequence[Mapping[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, source: str) -> Fields:
        """Raises DataError for a source that cannot be read, or without rows."""
        rows = [fields for _, fields in itertools.islice(objects_of(source)[1], LOOKED_AT)]
        if not rows:
            raise DataError(source, None, None, "has no rows; at least one is expected")
        return cls(source, tuple(dict.fromkeys(name for row in rows for name in row)), rows)

    def has(self, *ours: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether every row has these fields, under our names or those that are understood as them."""
        return all(found.get(name) not in (None, "") for found in self._as_ours(columns or {}) for name in ours)

    def has_somewhere(self, ours: str, columns: Mapping[str, str]) -> bool:
        """Whether some row has this field, if only an empty one."""
        return any(ours in found for found in self._as_ours(columns))

    def _as_ours(self, columns: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        return (our_names(renamed(dict(row), columns)) for row in self.rows)

    def columns(self, wanted: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
        """Our names of fields -> the file's, where they differ; `given` are known. What has no likely name is left out:
        the reader of the rows names what is missing."""
        found = dict(given)
        for ours in wanted:
            if ours in found or self.has(ours, columns=found):
                continue
            likely = (name for other in (ours, *OTHER_NAMES[ours]) for name in self.names if _same(name, other))
            free = (name for name in likely if name not in found.values() and name not in wanted)
            if (name := next((name for name in free if self._fits(ours, name)), None)) is not None:
                found[ours] = name
        return found

    @contextmanager
    def remedy(self, file: str, wanted: Sequence[str], columns: Mapping[str, str]) -> Iterator[None]:
        """Adds to the fault of a reader, where no row has a field for what is wanted, how `selfevo init` is told of it.
        `file`: what it is called there."""
        try:
            yield
        except DataError as error:
            missing = [ours for ours in wanted if not self.has_somewhere(ours, columns) and ours not in columns]
            if missing:
                named = " ".join(f"--column {file}.{ours}={self._likely(ours, columns)}" for ours in missing)
                error.args, error.several = (f"{error.faults[0]}; here: {named}",), ()
            raise

    def _likely(self, ours: str, columns: Mapping[str, str]) -> str:
        """A field that could be it."""
        taken = ("", *columns.values(), *META)
        free = (name for name in self.names if name not in taken and self._fits(ours, name))
        return next(free, "FIELD")

    def _fits(self, ours: str, name: str) -> bool:
        """Whether what is in a field can be what we call so."""
        values = [row.get(name) for row in self.rows]
        if ours == "good":
            return all(isinstance(value, bool) or str(value).lower() in ("true", "false") for value in values)
        kinds = (str, int, float, list) if ours == ANSWER else (str,)
        return all(isinstance(value, kinds) and value not in ("", []) for value in values)


def _same(name: str, other: str) -> bool:
    return name.lower().replace("-", "_").replace(" ", "_") == other
