"""How a run writes its small files, whole or not at all, and reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage import storage_of


def write_file(path: Path, content: bytes) -> None:
    """Raises SelfevoError where it cannot."""
    storage_of(path).write(path, content)


def to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def write_json(path: Path, value: Any) -> None:
    write_file(path, to_json(value))


def read_json(path: Path) -> Any:
    """Raises SelfevoError naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SelfevoError(f"{path}: not readable as JSON ({error}); move it away and run again") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a finished JSONL file."""
    return rows_of(path.read_bytes())


def rows_of(content: bytes, first: int | None = None) -> list[dict[str, Any]]:
    """Rows of JSON Lines, or the first ones."""
    return [json.loads(line) for line in content.split(b"\n")[:first] if line]
