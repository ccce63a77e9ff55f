"""The rows of an annotation: what comes in, and what it was that gave no row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.data import ResponseRow, Tell, numbered_rows
from selfevo_jax.errors import ConfigError, DataError, shown
from selfevo_jax.text import number_as_text, utf8


@dataclass(frozen=True)
class Prompt:
    """A row of PROMPTS."""

    id: str
    prompt: str
    response: str = ""
    """That it came with; empty where none is looked for."""
    reference: str = ""
    """The same of its gold answer."""


@dataclass(frozen=True)
class Responded:
    """A prompt with a response that feedback is to be written about."""

    id: str
    prompt: str
    response: str
    reference: str


@dataclass(frozen=True)
class Rejected:
    """What gave no row."""

    id: str
    prompt: str
    stage: str
    """`response`, `feedback`, `refine` or `answer`."""
    reason: str
    text: str = ""
    """What the model said there."""
    response: str = ""
    feedback: str = ""


def read_rows(source: str, section: AnnotateSection, tell: Tell | None = None) -> list[Prompt]:
    """The rows of PROMPTS, with the columns that are looked for. Raises DataError naming line and field."""
    given = section.kind == "meta" and section.responses.given
    numbered = numbered_rows(source, ResponseRow, limit=section.limit, columns=section.columns, tell=tell)
    if given and all(row.response is None for _, row in numbered):
        raise ConfigError(
            f"{source}: no row has a 'response'; name who gives the responses (--base MODEL, or --response-model NAME "
            "at the server), or the column that holds them (--column response=NAME)"
        )
    return [
        Prompt(
            row.id,
            row.prompt,
            _text(source, line, "response", row.response, section.columns) if given else "",
            _text(source, line, "answer", row.answer, section.columns) if section.reference else "",
        )
        for line, row in numbered
    ]


def _text(source: str, line: int, field: str, value: object, columns: Mapping[str, str]) -> str:
    column = columns.get(field, field)
    if value is None:
        raise DataError(source, line, column, "is missing; every row needs one")
    text = number_as_text(value)
    if not isinstance(text, str):
        raise DataError(source, line, column, f"found {shown(value)}, expected text")
    if not text.strip():
        raise DataError(source, line, column, "the text is empty; fill it in or remove the row")
    try:
        return utf8(text).strip()
    except ValueError as error:
        raise DataError(source, line, column, str(error)) from None
