"""Rows of tables: CSV and TSV with a line of names, and Parquet."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

from etils import epath

from selfevo_jax.errors import DataError, first_line

_LONGEST_CELL = 16 << 20
"""Characters; Python's reader refuses more than 128 Ki by default."""
_SIGNS = {",": "','", "\t": "tabs", ";": "';'", "|": "'|'"}
"""What stands between columns, in words."""
_KINDS = {",": "name the file .csv", "\t": "name the file .tsv"}
_NAME = re.compile(r'("?)[\w.-]+(?: [\w.-]+)*\1')
"""Of a column."""
_BATCH = 1024
"""Rows of a Parquet file that are plain values at once."""
_NO_TEXT = {
    b"\x1f\x8b": "is compressed by gzip; unpack it, and name the file in it",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it, and name the file in it",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; save its rows as CSV in UTF-8",
    b"PAR1": "is a Parquet file; name it .parquet",
    b"\xff\xfe": "is UTF-16; save the file as UTF-8",
    b"\xfe\xff": "is UTF-16; save the file as UTF-8",
}
"""What files of other kinds begin with."""


def decoded(name: str, line: int, raw: bytes) -> str:
    """A line of UTF-8; the byte order mark before the first one is left out."""
    try:
        return (raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw).decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"
        other = (said for begin, said in _NO_TEXT.items() if line == 1 and raw.startswith(begin))
        raise DataError(name, line, None, next(other, problem)) from None


def csv_rows(name: str, path: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line that a row begins in, texts by the names of the first line). A quoted text may hold commas and line ends,
    and `""` for a quotation mark."""
    return _text_rows(name, path, ",")


def tsv_rows(name: str, path: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """`csv_rows` of a file whose cells stand between tabs."""
    return _text_rows(name, path, "\t")


def _text_rows(name: str, path: epath.Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    with path.open("rb") as file:
        lines = (decoded(name, line, raw) for line, raw in enumerate(file, 1))
        reader = csv.reader(_separated(name, lines, delimiter), delimiter=delimiter, strict=True)
        names: list[str] = []
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"is no row of cells ({first_line(error)}); a text with a quotation mark is quoted as a whole"
                raise DataError(name, line, None, problem) from None
            if not cells:
                continue
            if not names:
                names = _named(name, line, cells)
            elif len(cells) != len(names):
                raise DataError(
                    name,
                    line,
                    None,
                    f"has {len(cells)} cells, but line 1 names {len(names)} columns ({', '.join(names)}); quote a text "
                    "that holds the sign between cells",
                )
            else:
                # a table that was saved with its numbers of rows has a column without a name
                yield line, {key: cell for key, cell in zip(names, cells, strict=True) if key}


def _separated(name: str, lines: Iterator[str], delimiter: str) -> Iterator[str]:
    """The lines. Raises DataError where the first one has names between other signs."""
    looked_at = False
    for line, text in enumerate(lines, 1):
        if not looked_at and text.strip() and delimiter not in text:
            for sign, words in _SIGNS.items():
                parts = text.strip().split(sign)
                if len(parts) > 1 and all(_NAME.fullmatch(part.strip(" ")) for part in parts):
                    problem = f"its columns are separated by {words}, where this kind of file has {_SIGNS[delimiter]}"
                    remedy = _KINDS.get(sign, f"save it with {_SIGNS[delimiter]} between columns")
                    raise DataError(name, line, None, f"{problem}; {remedy}")
        looked_at = looked_at or bool(text.strip())
        yield text


def _named(name: str, line: int | None, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if twice := next((cell for cell in names if names.count(cell) > 1), None):
        raise DataError(name, line, twice, "names two columns; give one of them another name")
    return names


def parquet_rows(name: str, path: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the row from 1, plain values by the names of the columns). A number that is none (NaN) is null."""
    import pyarrow.parquet  # half a second to import, and seldom needed

    number = 0
    with path.open("rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            _named(name, None, table.schema_arrow.names)
            for batch in table.iter_batches(_BATCH):
                for fields in batch.to_pylist():
                    number += 1
                    yield number, {key: _plain(name, number, key, value) for key, value in fields.items()}
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            problem = f"not a readable row of a Parquet file ({first_line(error)}); save the file again"
            raise DataError(name, number + 1, None, problem) from error


def _plain(name: str, row: int, column: str, value: Any) -> Any:
    """A value as JSON has it: text for bytes and dates, null for what is no number."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(name, row, column, "found bytes that are not UTF-8, expected text") from None
    if isinstance(value, Mapping):
        return {str(key): _plain(name, row, column, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, row, column, inner) for inner in value]
    if isinstance(value, Decimal):
        return _plain(name, row, column, int(value) if value == value.to_integral_value() else float(value))
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
