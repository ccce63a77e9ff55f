"""The key-value part of a GGUF file, read in one pass.

The `gguf` package makes a numpy memory map for each string, which takes half a minute for a vocabulary of 49k pieces;
this takes a tenth of a second. Format: the GGUF specification of the ggml project (version 2 and 3, little-endian).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from selfevo_jax.errors import ModelError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens, in `tokenizer.ggml.token_type`; SentencePiece numbers its pieces likewise."""
MAX_ITEMS = 10_000_000
"""Keys, or entries of an array; more is a malformed file."""


def read_gguf_fields(path: str | Path) -> dict[str, Any]:
    """Key -> value of every metadata field; arrays are lists.

    Raises ModelError naming the file when it is not GGUF, is cut short, or is malformed.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{path}: not a GGUF file (its first bytes are not 'GGUF'); fetch the file again")
            (version,) = _take(file, "I")
            if version not in (2, 3):
                raise ModelError(f"{path}: GGUF version {version}; 2 and 3 (little-endian) can be read")
            _, count = _take(file, "QQ")
            fields: dict[str, Any] = {}
            for _ in range(_checked(count, MAX_ITEMS)):
                key = _string(file, size)
                if key in fields:
                    raise ValueError(f"key '{key}' is duplicated")
                (kind,) = _take(file, "I")
                fields[key] = _value(file, kind, size)
            return fields
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise ModelError(f"{path}: malformed GGUF file ({error}); fetch the file again") from error


def _take(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))


def _checked(count: int, most: int) -> int:
    if count > most:
        raise ValueError(f"a count of {count}")
    return count


def _string(file: BinaryIO, size: int) -> str:
    (length,) = _take(file, "Q")
    data = file.read(_checked(length, size))
    if len(data) < length:
        raise ValueError("it is cut short")
    return data.decode("utf-8")


def _value(file: BinaryIO, kind: int, size: int) -> Any:
    if kind == _STRING:
        return _string(file, size)
    if kind in _SCALARS:
        return _take(file, _SCALARS[kind])[0]
    if kind != _ARRAY:
        raise ValueError(f"a value of type {kind}")
    inner, count = _take(file, "IQ")
    _checked(count, min(size, MAX_ITEMS))
    if inner in _SCALARS:
        return list(_take(file, f"{count}{_SCALARS[inner]}"))
    if inner != _STRING:
        raise ValueError(f"an array of type {inner}")
    return [_string(file, size) for _ in range(count)]
