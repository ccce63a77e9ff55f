"""What every finished file of a run should hold, so that a single changed byte is found and named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage import storage_of

FILE = "checksums.jsonl"
READERS = 8
"""Files of a checkpoint that are read side by side."""


def checksum(path: Path) -> str:
    """sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Checksums:
    """`checksums.jsonl`: a line for each file that is about to take its place, so that a kill in between is no fault.

    The newest two lines of a file count: its content is that of the newest, or that of before where a kill came.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / FILE
        self._storage = storage_of(root)
        self._out = self._storage.lines(self.file)
        self._known: dict[str, list[str | None]] | None = None
        self._torn: int | None = None

    def expect(self, path: Path, content: bytes) -> None:
        """Says on disk what a file of the run will hold."""
        self._append([(path, hashlib.sha256(content).hexdigest())])

    def adopt(self, folder: Path) -> None:
        """Notes what the files below a folder hold that has just been finished."""
        found = self._storage.files(folder)
        with ThreadPoolExecutor(READERS) as pool:
            self._append(list(zip(found, pool.map(checksum, found), strict=True)))

    def forget(self, folder: Path) -> None:
        """The files below a folder will be made anew, or be gone."""
        self._append([(self.root / name, None) for name in self.names(folder)])

    def digest(self, path: Path) -> str | None:
        """The newest digest of a file of which something is known."""
        return self._lines()[path.relative_to(self.root).as_posix()][-1]

    def fault(self, path: Path) -> str | None:
        """What is wrong with a file, by its name; None where it is as it should be, or nothing is known of it."""
        return self._compare(path)[1]

    def _compare(self, path: Path) -> tuple[str | None, str | None]:
        """The digest of a file of which something is known, where it is there, and what is wrong with it."""
        name = path.relative_to(self.root).as_posix()
        wanted = self._lines().get(name)
        if not wanted or wanted[-1] is None:
            return None, None
        if not path.is_file():
            return None, f"{name}: missing"
        found = checksum(path)
        return found, None if found in wanted[-2:] else f"{name}: its content has changed"

    def names(self, folder: Path | None = None) -> list[str]:
        """The files of which something is known, all or those below a folder."""
        below = "" if folder is None else folder.relative_to(self.root).as_posix() + "/"
        return [name for name, digests in self._lines().items() if name.startswith(below) and digests[-1] is not None]

    def faults(self, folder: Path | None = None) -> Iterator[str]:
        """The faults of the files that are there."""
        for name in self.names(folder):
            path = self.root / name
            if path.exists() and (fault := self.fault(path)) is not None:
                yield fault

    def require(self, path: Path) -> None:
        """Raises SelfevoError where a file, or one below a folder, is not what it should be."""
        self._refuse(next(self.faults(path), None) if path.is_dir() else self.fault(path) if path.exists() else None)

    def _refuse(self, fault: str | None) -> None:
        if fault is not None:
            raise SelfevoError(
                f"{self.root}/{fault} since it was finished; restore it from a copy, or take it away, to have it made "
                "anew"
            )

    def settle(self, names: Iterable[str]) -> None:
        """`require` for files when a run goes on; where a write never took place, what is there counts as the newest
        again, however often that happens."""
        behind = []
        for path in (self.root / name for name in names):
            if not path.exists():
                continue
            found, fault = self._compare(path)
            self._refuse(fault)
            if found != self.digest(path):
                behind.append((path, found))
        self._append(behind)

    def _append(self, lines: Sequence[tuple[Path, str | None]]) -> None:
        known = self._lines()
        if not lines:
            return
        rows = [(path.relative_to(self.root).as_posix(), digest) for path, digest in lines]
        if self._torn is not None:
            self._out.cut(self._torn)
            self._torn = None
        told = (json.dumps({"file": name, "sha256": digest}, ensure_ascii=False) + "\n" for name, digest in rows)
        self._out.append("".join(told).encode("utf-8"))
        self._out.close()
        for name, digest in rows:
            known.setdefault(name, []).append(digest)

    def _lines(self) -> dict[str, list[str | None]]:
        """Digests by file, those of old lines first. A line that a kill tore is cut off before the next is written."""
        if self._known is None:
            self._known = {}
            content = self._out.read()
            whole = content[: content.rfind(b"\n") + 1]
            for number, line in enumerate(whole.splitlines(), start=1):
                try:
                    name, digest = _named(json.loads(line.decode("utf-8")))
                    self._known.setdefault(name, []).append(digest)
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    raise SelfevoError(f"{self.file}:{number}: not readable ({error}); restore the file") from error
            self._torn = len(whole) if len(whole) < len(content) else None
        return self._known


def _named(row: dict[str, Any]) -> tuple[str, str | None]:
    """The file below the run directory that a line speaks of, and its digest."""
    name, digest = row["file"], row["sha256"]
    if not isinstance(name, str) or not isinstance(digest, str | None):
        raise TypeError("expected a name and a digest")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"'{name}' is no file of this run")
    return name, digest
