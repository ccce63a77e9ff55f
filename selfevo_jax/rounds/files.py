"""How a run writes its small files: whole or not at all, on disk before the next step, and a clear error where not."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from selfevo_jax.errors import SelfevoError


def put(out: BinaryIO, content: bytes, durable: bool = True) -> None:
    """Writes, and with `durable` waits until it is on disk. Every byte of a run's own files passes here."""
    out.write(content)
    out.flush()
    if durable:
        os.fsync(out.fileno())


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Makes what the system says of a failed write one clear line."""
    try:
        yield
    except OSError as error:
        raise SelfevoError(
            f"{path}: could not be written ({error.strerror or error}); what was finished before is as it was. Make "
            "room, or put the disk right, and run the same command again"
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """Writes to a temporary name beside `path`, then moves it there. Raises SelfevoError where it cannot."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with told(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as out:
                put(out, content)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


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


def read_rows(path: Path, first: int | None = None) -> list[dict[str, Any]]:
    """Rows of a finished JSONL file, or its first ones."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:first] if line]
