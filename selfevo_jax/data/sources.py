"""Rows of the loop, checked strictly: a row that cannot be used is one clear line, before any work.

Where rows come from is said in `objects`: JSON Lines, a JSON list, CSV, TSV, Parquet, and data sets by their names.
What else than our own field names is understood is said in `fields`.
Fields that a reader does not know are ignored, so one file can serve several readers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, is_dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BeforeValidator, Strict, TypeAdapter, ValidationError

from selfevo_jax.data.fields import WHOLE_PROMPTS, goes_on, our_names, renamed
from selfevo_jax.data.objects import holds_text_alone, objects_of
from selfevo_jax.errors import ConfigError, DataError, Faults, shown
from selfevo_jax.storage import place, storage_of
from selfevo_jax.text import number_as_text, utf8

_OR_CHAT = (
    ", or messages of which the first is the user's and a text; a system message is set once for all, in format.system"
)
_WRITTEN_CHAT = re.compile(r"""\s*\[\s*\{\s*(["'])(?:role|content)\1\s*:.*\}\s*\]\s*""", re.DOTALL)
"""A list of messages as JSON or as Python shows it."""
_NAMED = 3
"""Faulty rows of a file that are named."""


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty; fill it in or remove the row")
    return utf8(text)


Text = Annotated[str, Strict(), AfterValidator(_filled)]
TextOrNumber = Annotated[str, Strict(), BeforeValidator(number_as_text), AfterValidator(_filled)]


@dataclass(frozen=True)
class PromptRow:
    """An unlabeled prompt p of a round."""

    id: TextOrNumber
    prompt: Text


@dataclass(frozen=True)
class QARow:
    """A prompt with its gold answer: a row of D_QA. The answer may be a worked solution."""

    id: TextOrNumber
    prompt: Text
    answer: TextOrNumber


@dataclass(frozen=True)
class EvaluationRow:
    """A prompt, and all else that its row has: what its scorers read."""

    id: TextOrNumber
    prompt: Text
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values. Not among them are id and prompt, and what the prompt was made of."""


@dataclass(frozen=True)
class MetaRow:
    """A row (p, r, f, r-hat) of D_meta."""

    id: TextOrNumber
    prompt: Text
    response: Text
    feedback: Text
    refinement: Text
    good: Annotated[bool, Strict()]
    """Whether the response is right; the feedback's verdict must say the same."""
    error: Annotated[str, Strict()] | None = None
    """The kind of error that was planted in the response; None when none was, or when it is not known."""
    step: Annotated[int, Strict()] | None = None
    """The step, counted from 1, in which the error lies."""


@dataclass(frozen=True)
class ResponseRow:
    """A prompt, and perhaps a response to it that feedback is to be written about, and the gold answer."""

    id: TextOrNumber
    prompt: Text
    response: Any = None
    answer: Any = None


Row = TypeVar("Row", PromptRow, QARow, EvaluationRow, MetaRow, ResponseRow)


def _named_by(kind: type) -> tuple[str, ...]:
    """The texts that name a row without an id."""
    return ("prompt", "response") if kind in (MetaRow, ResponseRow) else ("prompt",)


Tell = Callable[[str], None]
"""Takes a line that the user should know of the rows of a source."""


def stable_id(*texts: str) -> str:
    """16 hex digits that name a row by its text alone, so that order and file do not matter."""
    return hashlib.sha256("\x00".join(texts).encode("utf-8", "replace")).hexdigest()[:16]


def read_prompts(
    source: str | os.PathLike[str],
    *,
    skip: int = 0,
    limit: int | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    tell: Tell | None = None,
) -> list[PromptRow]:
    """Prompts `{prompt}` or one of the other forms above, with an optional `id`; an answer beside them is not read.

    Args:
      source: path or `builtin:` name.
      skip: rows to leave out at the start; they are not checked for their fields.
      limit: rows to return at most; None returns all. Rows after the last one returned are not read.
      columns: our name of a field -> the file's.
      tell: is told of conversations of which the first turn alone is read, with their number.

    Raises:
      DataError: rows cannot be used (the first ones, each with file, line and field), two rows share an id, or no row
        is left.
    """
    return [row for _, row in numbered_rows(source, PromptRow, skip, limit, columns, tell=tell)]


def read_qa(
    source: str | os.PathLike[str],
    *,
    skip: int = 0,
    limit: int | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    tell: Tell | None = None,
) -> list[QARow]:
    """Prompts with gold answers `{prompt, answer}`, GSM8K's or SVAMP's rows. Arguments and errors: `read_prompts`."""
    return [row for _, row in numbered_rows(source, QARow, skip, limit, columns, tell=tell)]


def read_meta(
    source: str | os.PathLike[str],
    *,
    skip: int = 0,
    limit: int | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    tell: Tell | None = None,
) -> list[MetaRow]:
    """Rows of D_meta `{prompt, response, feedback, refinement, good}`. Arguments and errors: `read_prompts`.

    Without an `id` a row is named by prompt and response, since D_meta may hold several responses to one prompt.
    """
    return [row for _, row in numbered_rows(source, MetaRow, skip, limit, columns, tell=tell)]


def jsonl_lines(rows: Iterable[Any]) -> Iterator[bytes]:
    """Dataclasses or mappings as JSON Lines."""
    for row in rows:
        plain = asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row)
        yield (json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    """Writes JSON Lines, of which no reader sees half. Raises SelfevoError where the file cannot be written."""
    file = place(path)
    storage_of(file).write(file, b"".join(jsonl_lines(rows)))


def rows_file(given: str, named: str = "OUT") -> Path:
    """A file of rows that is to be written. Raises ConfigError, by the name of its argument, where its own name says
    another form: it would be read in that one."""
    file = place(given)
    if file.suffix.lower() != ".jsonl":
        raise ConfigError(f"{named} {given}: expected a name that ends in .jsonl; rows are JSON Lines")
    return file


def numbered_rows(
    source: str | os.PathLike[str],
    kind: type[Row],
    skip: int = 0,
    limit: int | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    perhaps: Mapping[str, str] = MappingProxyType({}),
    tell: Tell | None = None,
) -> list[tuple[int, Row]]:
    """Rows with their lines; `columns`: our name of a field -> the file's, which some row must have; `perhaps`: the
    same, where none needs to have it. Arguments and errors: `read_prompts`."""
    name = os.fspath(source)
    if skip < 0 or (limit is not None and limit < 1):
        raise DataError(name, None, None, f"skip {skip} and limit {limit}: skip is 0 or more, limit 1 or more or none")
    _, objects = objects_of(source)
    reader = _Reader(name, kind, {**perhaps, **columns}, holds_text_alone(source))
    rows: list[tuple[int, Row]] = []
    lines: dict[str, int] = {}
    seen, faults, unnamed, longer = 0, Faults(), list[_MissingField](), list[int]()
    for line, fields in objects:
        seen += 1
        if seen <= skip:
            continue
        try:
            row = reader.row(line, fields)
            if row.id in lines:
                first = lines[row.id]
                if {"id", "ID", "question_id", "idx"} & fields.keys():
                    problem = f"'{row.id}' is the id of line {first} too; give each row its own id"
                    raise DataError(name, line, "id", problem)
                named = " and ".join(_named_by(kind))
                problem = f"has the {named} of line {first}; remove one of the two rows, or give each an id"
                raise DataError(name, line, None, problem)
        except DataError as error:
            faults.add(error)
            unnamed += [error] if isinstance(error, _MissingField) else []
            if len(faults) == _NAMED:
                break
            continue
        lines[row.id] = line
        rows.append((line, row))
        if tell is not None and goes_on(renamed(fields, columns)):
            longer.append(line)
        if len(rows) == limit:
            break
    if not rows and len(unnamed) == len(faults) and len({error.field for error in unnamed}) == 1:
        raise unnamed[0]  # of one cause: what no row has, each row lacks
    faults.refuse()
    if not rows:
        problem = f"skip {skip} leaves none of its {seen} rows" if seen else "has no rows; at least one is expected"
        raise DataError(name, None, None, problem)
    for ours, theirs in columns.items():
        if theirs not in reader.found:
            problem = f"`columns` takes '{ours}' from '{theirs}', which no row has; there are {', '.join(reader.found)}"
            raise DataError(name, None, None, problem)
    if longer and tell is not None:
        tell(
            f"{name}: {len(longer)} of {len(rows)} rows (the first: line {longer[0]}) are conversations with several "
            "turns of the user: the first alone is asked, with the reply to it as its answer, and the rest is left "
            "out. To ask a later turn, write what was said before it into the text of the prompt"
        )
    return rows


class _MissingField(DataError):
    """A row without a field that it must have."""

    def __init__(self, file: str, line: int, field: str, problem: str) -> None:
        super().__init__(file, line, field, problem)
        self.field = field


class _Reader(Generic[Row]):
    """From the fields of a file to rows of a kind."""

    def __init__(self, name: str, kind: type[Row], columns: Mapping[str, str], texts: bool) -> None:
        self._name, self._columns, self._texts = name, columns, texts
        self._kind: type[Row] = kind
        self._adapter: TypeAdapter[Row] = TypeAdapter(kind)
        self.found: dict[str, None] = {}
        """Every field that a row had."""

    def row(self, line: int, fields: dict[str, Any]) -> Row:
        """Raises DataError for a row that cannot be used, by the file's own name of the field."""
        self.found |= dict.fromkeys(fields)
        values = our_names(renamed(fields, self._columns))
        if self._texts:
            values = _from_text(values)
        prompt = values.get("prompt")
        if isinstance(prompt, str) and _WRITTEN_CHAT.fullmatch(prompt):
            problem = "found messages that are written as a text, as a table has them; save them as a list, in .jsonl"
            raise self._fault(line, "prompt", problem + " or .parquet")
        if self._kind is EvaluationRow:
            values["columns"] = {
                key: value
                for key, value in values.items()
                if key not in ("id", "prompt") and not (key in WHOLE_PROMPTS and value == prompt)
            }
            for column, value in values["columns"].items():
                try:
                    utf8(json.dumps(value, ensure_ascii=False))
                except ValueError as error:
                    raise self._fault(line, column, str(error)) from None
        names = [f.name for f in fields_of(self._kind)]
        optional = {f.name for f in fields_of(self._kind) if f.default is not MISSING}
        missing = [f for f in names if f not in values and f != "id" and f not in optional]
        if missing:
            found = ", ".join(fields) or "none"
            ours = missing[0]
            problem = (
                f"is missing; the row has the fields: {found}; if one of them is it, name it: in a config "
                f"{{source: {self._name}, columns: {{{ours}: FIELD}}}}, for `selfevo generate` and `annotate` "
                f"--column {ours}=FIELD"
            )
            raise _MissingField(self._name, line, self._called(ours), problem)
        if values.get("id") is None:
            texts = [str(values[f]) for f in _named_by(self._kind) if values.get(f) is not None]
            values["id"] = stable_id(*texts)
        try:
            return self._adapter.validate_python({f: values[f] for f in names if f in values})
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0]) if first["loc"] else "row"
            if first["type"] == "value_error":
                problem = str(first["ctx"]["error"])
            else:
                expected = {"bool_type": "true or false", "int_type": "a whole number"}.get(first["type"], "text")
                if field == "prompt" and isinstance(first["input"], list):
                    expected += _OR_CHAT
                problem = f"found {shown(first['input'])}, expected {expected}"
            raise self._fault(line, field, problem) from None

    def _called(self, field: str) -> str:
        """As the file would have it."""
        return self._columns.get(field, "prompt' or 'question" if field == "prompt" else field)

    def _fault(self, line: int, field: str, problem: str) -> DataError:
        return DataError(self._name, line, self._columns.get(field, field), problem)


def _from_text(values: dict[str, Any]) -> dict[str, Any]:
    """What texts stand for, where a field is no text: nothing, true or false, a whole number."""
    found = values | {key: None for key in ("id", "error", "step") if values.get(key) == ""}
    good, step = found.get("good"), found.get("step")
    if isinstance(good, str) and good.lower() in ("true", "false"):
        found["good"] = good.lower() == "true"
    if isinstance(step, str) and step.isascii() and step.isdigit():
        found["step"] = int(step)
    return found
