"""A JSONL file that grows row by row and survives a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfevo_jax.rounds.files import rows_of
from selfevo_jax.storage import Lines, storage_of


class Journal:
    """A torn last line is cut off when it is opened."""

    def __init__(self, path: Path, follows: int | None = None, check: Callable[[], None] = lambda: None) -> None:
        """With `follows`, the first rows of a file that another process writes: appended rows stay in memory.

        `check` is called before a row is written, and may refuse it.
        """
        self.path, self._check = path, check
        self._out: Lines | None = None
        lines = storage_of(path).lines(path)
        if follows is not None:
            self.rows = rows_of(lines.read(), follows)
        else:
            self._out, self.rows = lines, self._recover(lines)

    def _recover(self, lines: Lines) -> list[dict[str, Any]]:
        content = lines.read()
        rows, good = [], 0
        for line in content.splitlines(keepends=True):
            try:
                row = json.loads(line.decode("utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError):
                break
            if not line.endswith(b"\n") or not isinstance(row, dict):
                break
            rows.append(row)
            good += len(line)
        if good < len(content):
            lines.rewrite(content[:good])
        return rows

    def append(self, row: dict[str, Any]) -> None:
        """Raises SelfevoError where the row cannot be written."""
        if self._out is not None:
            self._check()
            self._out.append((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))
        self.rows.append(row)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()
