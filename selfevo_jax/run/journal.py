"""A JSONL file that grows row by row and survives a kill. Each row stands for itself.

On disk a row ends in `"check"`: its length in bytes, and a digest of it and of what the file belongs to. So a row that
was changed, cut short, doubled, or put there from another file is told from the others, which stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Hashable
from pathlib import Path
from typing import Any

from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage import Lines, storage_of

_CHECK = b', "check": "'
Row = dict[str, Any]


def encoded(row: Row, belongs: str = "") -> bytes:
    """A row as it is on disk, with its line end."""
    body = json.dumps(row, ensure_ascii=False).encode("utf-8")
    return body[:-1] + _CHECK + _check(body, belongs).encode() + b'"}\n'


def decoded(line: bytes, belongs: str = "") -> Row:
    """The inverse of `encoded`. Raises ValueError for anything else."""
    head, mark, check = line.rpartition(_CHECK)
    body = head + b"}"
    if not mark or check != f'{_check(body, belongs)}"}}'.encode():
        raise ValueError("not what was written there for this file")
    row = json.loads(body.decode("utf-8"))
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    return row


def _check(body: bytes, belongs: str) -> str:
    return f"{len(body)} {hashlib.sha256(belongs.encode() + body).hexdigest()[:16]}"


def by_id(row: Row) -> tuple[str, int]:
    """What no two rollouts of a file share."""
    return row["id"], row["sample"]


def _good(content: bytes, belongs: str) -> tuple[dict[Hashable, tuple[Row, bytes]], list[bytes], bool]:
    """The rows of a file by `by_id`, its lines that are none, and whether its last line is cut off."""
    *lines, torn = content.split(b"\n")
    found: dict[Hashable, tuple[Row, bytes]] = {}
    bad = []
    for line in lines:
        try:
            row = decoded(line, belongs)
            key = by_id(row)
            fresh = key not in found
        except (ValueError, KeyError, TypeError, RecursionError):
            fresh = False
        if fresh:
            found[key] = row, line
        else:
            bad.append(line)
    return found, bad, bool(torn)


def rows_so_far(path: Path, belongs: str = "") -> list[Row]:
    """The rows of a file that another process may be writing: it is only read."""
    return [row for row, _ in _good(storage_of(path).lines(path).read(), belongs)[0].values()]


class Journal:
    """Rows of a part that is not finished, in the order in which they came."""

    def __init__(
        self,
        path: Path,
        follows: int | None = None,
        check: Callable[[], None] = lambda: None,
        belongs: str = "",
        among: Collection[Hashable] | None = None,
    ) -> None:
        """What is torn or bad is taken out of the file, and kept in `bad`.

        Args:
          path: the file.
          follows: the first so many rows of a file that another process writes; appended rows stay in memory.
          check: called before a row is written; may refuse it.
          belongs: what the rows belong to; those of another run or round are bad.
          among: the only rows (by `by_id`) that are kept of the file; None for all.
        """
        self.path, self._check, self._belongs, self._among = path, check, belongs, among
        self._out: Lines | None = None
        self.bad: list[bytes] = []
        """Lines that are not rows of this file, or that are doubled."""
        lines = storage_of(path).lines(path)
        good = self._read(lines.read())
        self.rows = [row for row, _ in good]
        if follows is None:
            self._out = lines
            if self.bad or self._stale:
                lines.rewrite(b"".join(line + b"\n" for _, line in good))
        elif len(good) < follows:
            raise SelfevoError(
                f"{path}: {len(good)} rows here, {follows} where it is written; put run_dir on storage that all hosts "
                "share, and run the same command again"
            )
        else:
            self.rows = self.rows[:follows]

    def _read(self, content: bytes) -> list[tuple[Row, bytes]]:
        found, self.bad, torn = _good(content, self._belongs)
        among = found if self._among is None else self._among
        kept = [row for key, row in found.items() if key in among]
        self._stale = torn or len(kept) < len(found)
        return kept

    def append(self, row: Row) -> None:
        """Raises SelfevoError where the row cannot be written."""
        if self._out is not None:
            self._check()
            self._out.append(encoded(row, self._belongs))
        self.rows.append(row)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()
