"""A file of lines that grows where nothing can be appended to: each growth is an object of its own, whole or not there.

`NAME.d/00000001.jsonl`, `NAME.d/00000002.jsonl` and so on are NAME as it grows. Where NAME itself is there, it holds
everything, and segments beside it are left over from a kill.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

from selfevo_jax.errors import SelfevoError

GROUP_SECONDS = 2.0
"""Lines are kept back so long at most, to share a segment."""


class Objects(Protocol):
    """What segments need of a bucket (see selfevo_jax.storage.objects)."""

    def content(self, path: Path) -> bytes: ...
    def contents(self, paths: list[Path]) -> list[bytes]: ...
    def files(self, folder: Path) -> list[Path]: ...
    def modified(self, path: Path) -> float: ...
    def write(self, path: Path, content: bytes) -> None: ...
    def upload(self, path: Path, content: bytes, generation: str | None = None) -> dict[str, Any]: ...
    def delete(self, path: Path) -> bool: ...
    def remove(self, folder: Path) -> None: ...


class Segments:
    """Lines are grouped, and written in the background."""

    def __init__(self, path: Path, objects: Objects) -> None:
        self.path, self.folder, self._objects = path, path.with_name(f"{path.name}.d"), objects
        self._turn = threading.Lock()
        self._waiting: list[bytes] = []
        self._timer: threading.Timer | None = None
        self._failed: BaseException | None = None
        self._next: int | None = None

    def read(self) -> bytes:
        for _ in range(3):
            try:
                return self._whole()
            except FileNotFoundError:  # its segments were removed after they had been listed: the file is whole now
                continue
        raise SelfevoError(f"{self.path}: changes while it is read; try again")

    def _whole(self) -> bytes:
        try:
            return self._objects.content(self.path)
        except FileNotFoundError:
            return b"".join(self._objects.contents(self._objects.files(self.folder)))

    def rewrite(self, content: bytes) -> None:
        self.close()
        self._objects.write(self.path, content)
        self._next = None

    def append(self, content: bytes) -> None:
        with self._turn:
            self._raise()
            self._waiting.append(content)
            if self._timer is None:
                self._timer = threading.Timer(GROUP_SECONDS, self._in_background)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        with self._turn:
            self._flush()
            self._raise()

    def grown(self) -> float | None:
        found = self._objects.modified(self.path) or self._objects.modified(self.folder)
        return found or None

    def replaced(self) -> None:
        self._objects.remove(self.folder)
        self._next = None

    def _in_background(self) -> None:
        with self._turn:
            try:
                self._flush()
            except BaseException as error:  # told by the next call
                self._failed = error

    def _raise(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        if self._next is None:
            self._next = self._begin()
        segment = self._name(self._next)
        try:
            self._objects.upload(segment, b"".join(self._waiting), "0")
        except FileExistsError as error:
            raise SelfevoError(f"{segment}: another process writes in this run; this one ends here") from error
        self._waiting.clear()
        self._next += 1

    def _begin(self) -> int:
        """The number of the next segment. A whole file becomes the first one."""
        try:
            whole = self._objects.content(self.path)
        except FileNotFoundError:
            there = self._objects.files(self.folder)
            return int(there[-1].stem) + 1 if there else 1
        self._objects.remove(self.folder)
        self._objects.upload(self._name(1), whole, "0")
        self._objects.delete(self.path)
        return 2

    def _name(self, number: int) -> Path:
        return self.folder / f"{number:08d}.jsonl"
