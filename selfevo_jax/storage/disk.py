"""Files on a disk that this host has mounted: flushed to it, appended to, and moved into their place."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO

from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage.base import Seen

CLAIM_SECONDS = 10.0
"""How long the claim of a take-over may last; it takes a few milliseconds."""


def put(out: BinaryIO, content: bytes, durable: bool = True) -> None:
    """Writes, and with `durable` waits until it is on disk. Every byte of a run's own files passes here."""
    out.write(content)
    out.flush()
    if durable:
        os.fsync(out.fileno())


def digest_of(file: BufferedReader | BytesIO, kind: str) -> str:
    """A digest with the name of its kind, in the form that Google Cloud Storage gives. Raises SelfevoError for a kind
    that cannot be computed here."""
    if kind == "sha256":
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if kind == "md5":
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
    elif kind == "crc32c":
        try:
            from google_crc32c import Checksum
        except ImportError as error:
            raise SelfevoError(
                "a crc32c checksum of a bucket cannot be computed here; pip install google-crc32c"
            ) from error
        sum_ = Checksum()
        while part := file.read(1 << 20):
            sum_.update(part)
        found = sum_.digest()
    else:
        raise SelfevoError(f"'{kind}' is no kind of checksum that this version knows; restore checksums.jsonl")
    return f"{kind}:{base64.b64encode(found).decode()}"


_ELSEWHERE = "Name a folder that you may write in, or change the rights to this one"
_REMEDIES: dict[int | None, str] = {
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.ENAMETOOLONG: "Choose a shorter name",
}
"""By the number of the system's error; every other one may pass."""


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Makes what the system says of a failed write one clear line."""
    try:
        yield
    except OSError as error:
        raise SelfevoError(
            f"{path}: could not be written ({error.strerror or error}); what was finished before is as it was. "
            f"{_REMEDIES.get(error.errno, 'Make room, or put the disk right, and run the same command again')}"
        ) from error


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Makes what the system says of a failed look one clear line."""
    try:
        yield
    except OSError as error:
        raise SelfevoError(
            f"{path}: cannot be read ({error.strerror or error}); look at the name, the disk and the rights to it"
        ) from error


class DiskLines:
    """A file that is appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._out: BinaryIO | None = None

    def read(self) -> bytes:
        with readable(self.path):
            return self.path.read_bytes() if self.path.exists() else b""

    def rewrite(self, content: bytes) -> None:
        self.close()
        Disk().write(self.path, content)

    def append(self, content: bytes) -> None:
        with told(self.path):
            if self._out is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._out = self.path.open("ab")
            put(self._out, content, durable=False)

    def close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            with told(self.path), out:
                put(out, b"")

    def grown(self) -> float | None:
        return self.path.stat().st_mtime if self.path.exists() else None

    def replaced(self) -> None:
        pass


class DiskLockFile:
    """A file that is made exclusively, and touched as a sign of life.

    What changes hands does so in turn: among processes of one machine (and of others, where the file system has locks
    for them) by a lock on the folder, and among all by a claim, a file that is made exclusively and named after what
    is to be replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, content: bytes) -> bool:
        with told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                return self._make(self.path, content)

    def _make(self, path: Path, content: bytes) -> bool:
        try:
            made = path.open("xb")
        except FileExistsError:
            return False
        try:
            with made as out:
                put(out, content)
        except OSError:  # an empty lock would hold the next process up
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return True

    def look(self) -> Seen | None:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                return Seen(file.read(), f"{status.st_ino} {status.st_mtime_ns}", status.st_mtime)
        except FileNotFoundError:
            return None

    def age(self, seen: Seen) -> float:
        probe = self._beside("now")
        try:
            probe.touch()
            return probe.stat().st_mtime - seen.beaten
        finally:
            probe.unlink(missing_ok=True)

    def beat(self) -> None:
        os.utime(self.path)

    def swap(self, seen: Seen, content: bytes | None) -> bool:
        claim = self.path.with_name(f"{self.path.name}.claim.{hashlib.sha256(seen.content).hexdigest()[:16]}")
        with told(self.path), self._alone():
            if not self._claimed(claim):
                return False
            try:
                if self.look() != seen:
                    return False
                if content is None:
                    self.path.unlink()
                else:
                    new = self._beside("new")
                    self._make(new, content)
                    new.replace(self.path)
                return True
            finally:
                claim.unlink(missing_ok=True)

    def _claimed(self, claim: Path) -> bool:
        """Whether this process may replace the lock; the claim of a process that died at it is taken away."""
        if self._make(claim, b""):
            return True
        with contextlib.suppress(FileNotFoundError):
            before, until = claim.stat().st_ino, time.monotonic() + CLAIM_SECONDS
            while time.monotonic() < until:
                if claim.stat().st_ino != before:
                    return False
                time.sleep(0.1)
            claim.unlink()
        return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """In turn with other processes at this folder, where the file system can do that."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError, ImportError):
                import fcntl

                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{what}.{secrets.token_hex(4)}")


class Disk:
    """Storage on a disk."""

    def reach(self, folder: Path) -> None:
        """Refuses a place that is no folder and cannot become one, or cannot be read."""
        with readable(folder):
            for part in (folder, *folder.parents):
                if part.exists() and not part.is_dir():
                    raise SelfevoError(
                        f"{part}: a file where a run directory needs a folder; name another run directory"
                    )
            with contextlib.suppress(FileNotFoundError):
                os.scandir(folder).close()

    def refuse_links(self, folder: Path) -> None:
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                if (found := Path(place, name)).is_symlink():
                    raise SelfevoError(
                        f"{found}: a link inside a run directory, which a run does not follow; take it away. To keep a "
                        "run elsewhere, name that place as run_dir"
                    )

    def write(self, path: Path, content: bytes) -> None:
        """To a temporary name beside `path`, then moved there."""
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

    def note(self, path: Path, content: bytes) -> None:
        beside = path.with_name(f"{path.name}.new")  # one name: what a kill leaves is written over
        beside.write_bytes(content)
        beside.replace(path)

    def claim(self, path: Path, content: bytes) -> None:
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                with contextlib.suppress(FileExistsError):
                    made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                    with os.fdopen(made, "wb") as out:
                        put(out, content)

    def modified(self, path: Path) -> float:
        return path.stat().st_mtime

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def checksum(self, path: Path, kind: str | None = None) -> str:
        with path.open("rb") as file:
            return digest_of(file, kind or "sha256")

    def files(self, folder: Path) -> list[Path]:
        return sorted(file for file in folder.rglob("*") if file.is_file())

    def remove(self, folder: Path) -> None:
        if folder.exists():
            with told(folder):
                shutil.rmtree(folder)

    def move(self, path: Path, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        path.rename(to)

    def free(self, folder: Path) -> int | None:
        place = next(p for p in (folder, *folder.parents) if p.exists())
        return shutil.disk_usage(place).free

    def lines(self, path: Path) -> DiskLines:
        return DiskLines(path)

    def lock_file(self, path: Path) -> DiskLockFile:
        return DiskLockFile(path)
