"""A JSONL file that grows row by row and survives a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from selfevo_jax.rounds import files


class Journal:
    """A torn last line is cut off when it is opened."""

    def __init__(self, path: Path, follows: int | None = None, check: Callable[[], None] = lambda: None) -> None:
        """With `follows`, the first rows of a file that another process writes: appended rows stay in memory.

        `check` is called before a row is written, and may refuse it.
        """
        self.path, self._check = path, check
        self._out: BinaryIO | None = None
        if follows is not None:
            self.rows = files.read_rows(path, follows) if follows else []
            return
        with files.told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.rows = self._recover()
            self._out = path.open("ab")

    def _recover(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        rows, good = [], 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(line.decode("utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError):
                break
            if not line.endswith(b"\n") or not isinstance(row, dict):
                break
            rows.append(row)
            good += len(line)
        with self.path.open("r+b") as out:
            out.truncate(good)
        return rows

    def append(self, row: dict[str, Any]) -> None:
        """Raises SelfevoError where the row cannot be written."""
        if self._out is not None:
            self._check()
            with files.told(self.path):
                files.put(self._out, (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"), durable=False)
        self.rows.append(row)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            with files.told(self.path), self._out:
                files.put(self._out, b"")
