"""What a run asks of the place where its files lie, whatever that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Lines(Protocol):
    """A file of lines that grows, and survives a kill."""

    def read(self) -> bytes:
        """All of it; nothing where it has not begun."""

    def rewrite(self, content: bytes) -> None:
        """Puts whole lines in place of all of it, such as those without the one that a kill tore."""

    def append(self, content: bytes) -> None:
        """Adds whole lines, which may be on their way until `close`. Raises SelfevoError where that cannot be done."""

    def close(self) -> None:
        """Returns when all of it is in place. Raises SelfevoError where it cannot be written."""

    def grown(self) -> float | None:
        """Unix seconds of the last growth; None where it has not begun."""

    def replaced(self) -> None:
        """The file has been written whole: what had grown of it may go."""


@dataclass(frozen=True)
class Seen:
    """A lock file as it was found."""

    content: bytes
    sign: str
    """Another one after each sign of life."""
    beaten: float
    """Unix seconds of the last sign of life, by the clock of the storage."""


class LockFile(Protocol):
    """A small file that one process makes, and that others see.

    Every method raises OSError or SelfevoError where the storage does not answer: that is no answer, neither yes nor
    no.
    """

    def create(self, content: bytes) -> bool:
        """Whether there was none, so that it is this process's now."""

    def look(self) -> Seen | None:
        """What it says; None where there is none."""

    def age(self, seen: Seen) -> float:
        """Seconds since its last sign of life, by the clock of the storage (hosts' clocks differ)."""

    def beat(self) -> None:
        """A sign of life of who made it. Raises OSError where it is not there, or another's."""

    def swap(self, seen: Seen, content: bytes | None) -> bool:
        """Puts other content in place of what was seen, or removes it (None); False where it is not what was seen any
        more: another's by now, or its owner has given a sign of life since. One of many processes gets True."""


class Storage(Protocol):
    """Files of a run, by their paths."""

    def reach(self, folder: Path) -> None:
        """Raises SelfevoError where the storage behind a folder does not answer, or not to this user."""

    def refuse_links(self, folder: Path) -> None:
        """Raises SelfevoError for a link below a folder: through one, a run would write, cut or remove what is
        elsewhere."""

    def write(self, path: Path, content: bytes) -> None:
        """Whole or not at all, and in place when it returns. Raises SelfevoError where it cannot be written."""

    def note(self, path: Path, content: bytes) -> None:
        """A small file that may be lost with the machine: whole or not at all, without waiting for the disk. Raises
        OSError or SelfevoError where it cannot be written."""

    def claim(self, path: Path, content: bytes) -> None:
        """Makes a small file that its owner alone may read (a bucket: who may read the bucket), unless there is one:
        of several processes that come at once one makes it. Raises SelfevoError where it cannot be written."""

    def modified(self, path: Path) -> float:
        """Unix seconds of the last write."""

    def size(self, path: Path) -> int:
        """Bytes of a file that is there."""

    def checksum(self, path: Path, kind: str | None = None) -> str:
        """A digest of a file's content with the name of its kind: `sha256:`, `md5:` or `crc32c:`.

        Without a kind the cheapest: a bucket's own, so that nothing is fetched for it. Raises SelfevoError for a kind
        that cannot be computed here.
        """

    def files(self, folder: Path) -> list[Path]:
        """Every file below a folder, sorted; none where there is no folder."""

    def remove(self, folder: Path) -> None:
        """Removes a folder and what lies in it, where it is there."""

    def move(self, path: Path, to: Path) -> None:
        """Moves a file or folder to a name that is free."""

    def free(self, folder: Path) -> int | None:
        """Bytes that can still be written; None where there is no such limit."""

    def lines(self, path: Path) -> Lines:
        """A file of lines that grows."""

    def lock_file(self, path: Path) -> LockFile:
        """A file that only one process can make."""
