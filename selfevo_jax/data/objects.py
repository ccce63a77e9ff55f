"""The file behind a source, and the rows in it as plain values, whatever kind of file it is.

A *source* is a path (local or `gs://`), the name of a slice shipped with the package, such as `builtin:gsm8k/train`,
`tfds:NAME/SPLIT` (see `tfds_rows`) or `hf:OWNER/NAME/SPLIT` (see `hub_rows`). A file is what its name ends in: `.csv`,
`.tsv` and `.parquet` (see `tables`), `.json` (one JSON list of objects), or else JSON Lines (one object a line, UTF-8,
with or without a byte order mark). Lines end at `\\n` alone: other Unicode line separators are ordinary text inside a
string.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from selfevo_jax.data import hub_rows, tables, tfds_rows
from selfevo_jax.errors import DataError, shown
from selfevo_jax.section import ROW_FILES
from selfevo_jax.storage import did_you_mean, place

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BUILTIN = "builtin:"
_LIST = "found a JSON list, expected one object a line; name a file that is one list of objects .json"
_OTHER_FILE = ' such as {"prompt": "..."}; a table with commas or tabs needs a name that ends in .csv or .tsv'
Objects = Iterator[tuple[int, dict[str, Any]]]
"""Rows with their lines, from 1; of a table without lines the number of the row."""


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
    there = place(name)
    found = epath.Path(there)
    if found.is_dir():
        raise DataError(name, None, None, f"is a folder; name a file ({', '.join(ROW_FILES)})")
    if not found.exists():
        shipped = ", ".join(builtin_sources())
        near = did_you_mean(found)
        raise DataError(name, None, None, f"no such file{near}; name one ({', '.join(ROW_FILES)}), or one of {shipped}")
    if not there.is_file():
        raise DataError(name, None, None, "is a pipe or a device, and rows are read again later; save them as a file")
    return found


def source_checksum(source: str | os.PathLike[str]) -> str:
    """sha256 of the file behind a source, as hex. Raises DataError where there is none."""
    name = os.fspath(source)
    if name.startswith(tfds_rows.PREFIX):
        return tfds_rows.checksum(name)
    if name.startswith(hub_rows.PREFIX):
        return hub_rows.checksum(name)
    return hashlib.sha256(resolve_source(source).read_bytes()).hexdigest()


def builtin_sources() -> tuple[str, ...]:
    """The names of the slices shipped with the package, sorted."""
    return tuple(sorted(BUILTIN + p.relative_to(ASSETS).with_suffix("").as_posix() for p in ASSETS.glob("*/*.jsonl")))


def objects_of(source: str | os.PathLike[str]) -> tuple[str, Objects]:
    """The name of a source, and its rows."""
    name = os.fspath(source)
    if name.startswith(tfds_rows.PREFIX):
        return name, tfds_rows.rows(name)
    if name.startswith(hub_rows.PREFIX):
        return name, hub_rows.rows(name)
    path = resolve_source(source)
    readers = {".json": _json_list, ".csv": tables.csv_rows, ".tsv": tables.tsv_rows, ".parquet": tables.parquet_rows}
    return name, readers.get(path.suffix.lower(), _json_lines)(name, path)


def fields_at(source: str | os.PathLike[str], line: int) -> str:
    """The names of all fields of a row, for a message about one that it has not."""
    return next((", ".join(fields) for at, fields in objects_of(source)[1] if at == line), "") or "none"


def lacking(source: str | os.PathLike[str], line: int, column: str) -> str:
    """What a message says of a column that a row has not, with the remedy."""
    remedy = f"add it, or name the one that holds it with `columns`, such as {{{column}: FIELD}}"
    return f"is missing; the row has the fields: {fields_at(source, line)}; {remedy}"


def holds_text_alone(source: str | os.PathLike[str]) -> bool:
    """Whether the rows of a source have no other values than texts, whatever these stand for."""
    return os.fspath(source).lower().endswith((".csv", ".tsv"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the field '{twice}' is given twice in one object")
    return fields


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _json_lines(name: str, path: epath.Path) -> Objects:
    counted = 0
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            text = tables.decoded(name, line, raw).strip(" \t\r\n")
            if not text:
                continue
            if text.startswith("[") and not counted:
                raise DataError(name, line, None, _LIST)
            try:
                value = _DECODER.decode(text)
            except json.JSONDecodeError as error:
                torn = "; the line is cut off: it has no line end" if raw[-1:] != b"\n" and text[0] == "{" else ""
                problem = f"is no JSON at column {error.colno}: {error.msg}{torn}; expected one object a line"
                other = _OTHER_FILE if text[0] != "{" and not counted else ""
                raise DataError(name, line, None, problem + other) from None
            except (ValueError, RecursionError) as error:
                raise DataError(name, line, None, str(error)) from None
            counted += 1
            yield line, _expect_object(name, line, value)


def _json_list(name: str, path: epath.Path) -> Objects:
    """The objects of a JSON list, each with the line it begins in."""
    text = tables.decoded(name, 1, path.read_bytes())
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
    if (end := skip_space(at + 1)) < len(text):
        line = text.count("\n", 0, end) + 1
        raise DataError(name, line, None, "something stands behind the list; put all rows into one list")


def _expect_object(name: str, line: int, value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DataError(name, line, None, f"found {shown(value)}, expected a JSON object with named fields")
