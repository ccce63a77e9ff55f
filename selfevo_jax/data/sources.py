"""Rows of the loop from JSON Lines, checked strictly: a row that cannot be used is one clear line, before any work.

A *source* is a path (local or `gs://`), the name of a slice shipped with the package, such as `builtin:gsm8k/train`, or
`tfds:NAME/SPLIT` (see `tfds_rows`).
A file is JSON Lines (one object a line, UTF-8, with or without a byte order mark) or, when its name ends in `.json`,
one JSON list of objects. Lines end at `\\n` alone: other Unicode line separators are ordinary text inside a string.
Besides our own field names these are understood: GSM8K's `{question, answer}`, SVAMP's `{ID, Body, Question, Answer}`,
the `{question_id, turns}` of the Vicuna and MT-bench questions (the first turn is the prompt), Evol-Instruct's `{idx,
Instruction}`, and `{instruction, input}` or `{instruction, instances}` of Alpaca and Self-Instruct (the instruction, an
empty line, and the input where there is one).
Fields that a reader does not know are ignored, so one file can serve several readers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from etils import epath
from pydantic import AfterValidator, BeforeValidator, Strict, TypeAdapter, ValidationError

from selfevo_jax.data.tfds_rows import PREFIX, tfds_checksum, tfds_rows
from selfevo_jax.errors import DataError, shown
from selfevo_jax.storage import place
from selfevo_jax.text import number_as_text, utf8

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BUILTIN = "builtin:"


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


Row = TypeVar("Row", PromptRow, QARow, EvaluationRow, MetaRow)


def stable_id(*texts: str) -> str:
    """16 hex digits that name a row by its text alone, so that order and file do not matter."""
    return hashlib.sha256("\x00".join(texts).encode("utf-8", "replace")).hexdigest()[:16]


def resolve_source(source: str | os.PathLike[str]) -> epath.Path:
    """The file behind a source.

    Raises:
      DataError: there is no such file or shipped slice; the message lists the slices.
    """
    name = os.fspath(source)
    if name.startswith(BUILTIN):
        known = builtin_sources()
        if name not in known:
            raise DataError(name, None, None, f"no such slice is shipped; there are {', '.join(known)}")
        return epath.Path(ASSETS / (name.removeprefix(BUILTIN) + ".jsonl"))
    found = epath.Path(place(name))
    if found.is_dir():
        raise DataError(name, None, None, "is a folder; name a .jsonl file")
    if not found.exists():
        raise DataError(name, None, None, f"no such file; name a .jsonl file or one of {', '.join(builtin_sources())}")
    return found


def source_checksum(source: str | os.PathLike[str]) -> str:
    """sha256 of the file behind a source, as hex. Raises DataError where there is none."""
    name = os.fspath(source)
    if name.startswith(PREFIX):
        return tfds_checksum(name)
    return hashlib.sha256(resolve_source(source).read_bytes()).hexdigest()


def builtin_sources() -> tuple[str, ...]:
    """The names of the slices shipped with the package, sorted."""
    return tuple(sorted(BUILTIN + p.relative_to(ASSETS).with_suffix("").as_posix() for p in ASSETS.glob("*/*.jsonl")))


def read_prompts(
    source: str | os.PathLike[str],
    *,
    skip: int = 0,
    limit: int | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> list[PromptRow]:
    """Prompts `{prompt}` or one of the other forms above, with an optional `id`; an answer beside them is not read.

    Args:
      source: path or `builtin:` name.
      skip: rows to leave out at the start; they are not checked for their fields.
      limit: rows to return at most; None returns all. Rows after the last one returned are not read.
      columns: our name of a field -> the file's.

    Raises:
      DataError: a row cannot be used (file, line, field), two rows share an id, or no row is left.
    """
    return [row for _, row in numbered_rows(source, PromptRow, skip, limit, columns)]


def read_qa(source: str | os.PathLike[str], *, skip: int = 0, limit: int | None = None) -> list[QARow]:
    """Prompts with gold answers `{prompt, answer}`, GSM8K's or SVAMP's rows. Arguments and errors: `read_prompts`."""
    return read_rows(source, QARow, skip, limit)


def read_meta(source: str | os.PathLike[str], *, skip: int = 0, limit: int | None = None) -> list[MetaRow]:
    """Rows of D_meta `{prompt, response, feedback, refinement, good}`. Arguments and errors: `read_prompts`.

    Without an `id` a row is named by prompt and response, since D_meta may hold several responses to one prompt.
    """
    return read_rows(source, MetaRow, skip, limit)


def jsonl_lines(rows: Iterable[Any]) -> Iterator[bytes]:
    """Dataclasses or mappings as JSON Lines."""
    for row in rows:
        plain = asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row)
        yield (json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    """Writes JSON Lines under a temporary name first: no reader sees half a file."""
    target = epath.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            file.writelines(jsonl_lines(rows))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def objects_of(source: str | os.PathLike[str]) -> tuple[str, Iterator[tuple[int, dict[str, Any]]]]:
    """The name of a source, and its objects with their lines."""
    name = os.fspath(source)
    if name.startswith(PREFIX):
        return name, tfds_rows(name)
    path = resolve_source(source)
    return name, _json_list(name, path) if path.suffix == ".json" else _json_lines(name, path)


def read_rows(source: str | os.PathLike[str], kind: type[Row], skip: int, limit: int | None) -> list[Row]:
    return [row for _, row in numbered_rows(source, kind, skip, limit)]


def numbered_rows(
    source: str | os.PathLike[str],
    kind: type[Row],
    skip: int = 0,
    limit: int | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> list[tuple[int, Row]]:
    """Rows with their lines; `columns`: our name of a field -> the file's. Arguments and errors: `read_prompts`."""
    name = os.fspath(source)
    if skip < 0 or (limit is not None and limit < 1):
        raise DataError(name, None, None, f"skip {skip} and limit {limit}: skip is 0 or more, limit 1 or more or none")
    _, objects = objects_of(source)
    adapter = TypeAdapter(kind)
    rows: list[tuple[int, Row]] = []
    lines: dict[str, int] = {}
    seen = 0
    for line, fields in objects:
        seen += 1
        if seen <= skip:
            continue
        row = _row_of(name, line, _renamed(fields, columns), kind, adapter)
        if row.id in lines:
            remedy = "give each row its own id" if "id" in fields or "ID" in fields else "remove one of the two rows"
            raise DataError(name, line, "id", f"'{row.id}' is the id of line {lines[row.id]} too; {remedy}")
        lines[row.id] = line
        rows.append((line, row))
        if len(rows) == limit:
            break
    if not rows:
        problem = (
            f"skip {skip} leaves none of its {seen} rows" if seen else "has no rows; one JSON object a line is expected"
        )
        raise DataError(name, None, None, problem)
    return rows


def _renamed(fields: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Fields under our names; `columns` as for `numbered_rows`. A name that is not there changes nothing."""
    ours = {our: fields[theirs] for our, theirs in columns.items() if theirs in fields}
    return {name: value for name, value in fields.items() if name not in columns.values()} | ours if ours else fields


def _row_of(name: str, line: int, fields: dict[str, Any], kind: type[Row], adapter: TypeAdapter[Row]) -> Row:
    values = our_names(fields)
    if kind is EvaluationRow:
        prompt = values.get("prompt")
        values["columns"] = {
            key: value for key, value in values.items() if key not in ("id", "prompt") and value != prompt
        }
        for column, value in values["columns"].items():
            try:
                utf8(json.dumps(value, ensure_ascii=False))
            except ValueError as error:
                raise DataError(name, line, column, str(error)) from None
    names = [f.name for f in fields_of(kind)]
    missing = [f for f in names if f not in values and f not in ("id", "error", "step")]
    if missing:
        also = "' or 'question" if missing[0] == "prompt" else ""
        found = ", ".join(fields) or "none"
        raise DataError(name, line, missing[0] + also, f"is missing; the row has the fields: {found}")
    if values.get("id") is None:
        texts = (values["prompt"], values["response"]) if kind is MetaRow else (values["prompt"],)
        values["id"] = stable_id(*map(str, texts))
    try:
        return adapter.validate_python({f: values[f] for f in names if f in values})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "row"
        if first["type"] == "value_error":
            problem = str(first["ctx"]["error"])
        else:
            expected = {"bool_type": "true or false", "int_type": "a whole number"}.get(first["type"], "text")
            problem = f"found {shown(first['input'])}, expected {expected}"
        raise DataError(name, line, field, problem) from None


def our_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(fields)
    if "prompt" in values:
        return values
    if "Body" in values and "Question" in values:
        body, question = values["Body"], values["Question"]
        if isinstance(body, str) and isinstance(question, str):
            # SVAMP leaves the full stop of some bodies out.
            body = body.strip()
            values["prompt"] = body + (" " if body.endswith((".", ",", "?", "!")) else ". ") + question.strip()
        else:
            values["prompt"] = None
        values.update(
            {
                ours: values[theirs]
                for ours, theirs in (("id", "ID"), ("answer", "Answer"), ("equation", "Equation"))
                if theirs in values
            }
        )
    elif "question" in values:
        values["prompt"] = values["question"]
    elif "turns" in values:
        turns = values["turns"]
        values["prompt"] = turns[0] if isinstance(turns, list) and turns else None
        values.setdefault("id", values.get("question_id"))
    elif "Instruction" in values:
        values["prompt"] = values["Instruction"]
        values.setdefault("id", values.get("idx"))
    elif "instruction" in values:
        values["prompt"] = _with_input(values["instruction"], values.get("input"), values.get("instances"))
    return values


def _with_input(instruction: object, given: object, instances: object) -> object:
    """An instruction with its input, which may be that of the first of several instances."""
    if given is None and isinstance(instances, list) and instances and isinstance(instances[0], dict):
        given = instances[0].get("input")
    if isinstance(instruction, str) and isinstance(given, str) and given.strip():
        return f"{instruction.strip()}\n\n{given.strip()}"
    return instruction


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the field '{twice}' is given twice in one object")
    return fields


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _decoded(name: str, line: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"
        raise DataError(name, line, None, problem) from None


def _json_lines(name: str, path: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            text = _decoded(name, line, raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw).strip(" \t\r\n")
            if not text:
                continue
            try:
                value = _DECODER.decode(text)
            except json.JSONDecodeError as error:
                torn = "; the line is cut off: it has no line end" if not raw.endswith(b"\n") else ""
                problem = f"is no JSON at column {error.colno}: {error.msg}{torn}; expected one object a line"
                raise DataError(name, line, None, problem) from None
            except (ValueError, RecursionError) as error:
                raise DataError(name, line, None, str(error)) from None
            yield line, _expect_object(name, line, value)


def _json_list(name: str, path: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON list, each with the line it begins in."""
    text = _decoded(name, 1, path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    at, line = 0, 1

    def skip_space(at: int) -> int:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        return at

    at = skip_space(at)
    if not text.startswith("[", at):
        raise DataError(name, 1, None, "a .json file must be one list of objects; name JSON Lines .jsonl")
    at = skip_space(at + 1)
    counted = 0
    while not text.startswith("]", at):
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise DataError(name, error.lineno, None, f"is no JSON at column {error.colno}: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise DataError(name, line, None, str(error)) from None
        yield line, _expect_object(name, line, value)
        at = skip_space(at)
        if text.startswith(",", at):
            at = skip_space(at + 1)
        elif not text.startswith("]", at):
            raise DataError(name, line, None, "the list is cut off after this row; expected ',' or ']'")


def _expect_object(name: str, line: int, value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DataError(name, line, None, f"found {shown(value)}, expected a JSON object with named fields")
