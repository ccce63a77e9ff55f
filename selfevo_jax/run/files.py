"""How a run writes its small files, whole or not at all, and reads them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage import storage_of
from selfevo_jax.untrusted import read_bounded

MAX_JSON = 1 << 26
"""Bytes of a JSON file of a run."""


def write_file(path: Path, content: bytes) -> None:
    """Raises SelfevoError where it cannot."""
    storage_of(path).write(path, content)


def to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def write_json(path: Path, value: Any) -> None:
    write_file(path, to_json(value))


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Makes of a stored value that has not the form it was written in one clear error."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        raise SelfevoError(
            f"{path}: not what selfevo writes there ({type(error).__name__}: {error}); restore it from a copy, or move "
            "it away and run again"
        ) from error


def read_json(path: Path) -> Any:
    """Raises SelfevoError naming the file when it is not JSON, or larger than MAX_JSON."""
    content = read_bounded(path, MAX_JSON, SelfevoError, "move it away and run again")
    with understood(path):
        return json.loads(content.decode("utf-8"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a finished JSONL file."""
    with understood(path):
        return rows_of(path.read_bytes())


def rows_of(content: bytes, first: int | None = None) -> list[dict[str, Any]]:
    """Rows of JSON Lines, or the first ones."""
    return [json.loads(line) for line in content.split(b"\n")[:first] if line]
