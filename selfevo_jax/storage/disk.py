"""Files on a disk that this host has mounted: flushed to it, appended to, and moved into their place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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


class DiskLines:
    """A file that is appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._out: BinaryIO | None = None

    def read(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def cut(self, size: int) -> None:
        with told(self.path):
            os.truncate(self.path, size)

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
    """A file that is made exclusively, and touched as a sign of life."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, content: bytes) -> bool:
        with told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self.path.open("xb") as out:
                    put(out, content)
            except FileExistsError:
                return False
        return True

    def read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def beat(self) -> None:
        os.utime(self.path)

    def beaten(self) -> float | None:
        try:
            return self.path.stat().st_mtime
        except FileNotFoundError:
            return None

    def age(self) -> float | None:
        probe = self.path.with_name(f"{self.path.name}.now.{secrets.token_hex(4)}")
        try:
            probe.touch()
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        finally:
            probe.unlink(missing_ok=True)

    def remove(self, content: bytes | None) -> None:
        aside = self.path.with_name(f"{self.path.name}.gone.{secrets.token_hex(4)}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if aside.is_dir():  # no lock of ours
            return
        if aside.read_bytes() != content and not self.path.exists():
            aside.rename(self.path)
        aside.unlink(missing_ok=True)


class Disk:
    """Storage on a disk."""

    def reach(self, folder: Path) -> None:
        """Refuses links below the folder: through one, a run would write, cut or remove what lies elsewhere."""
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

    def checksum(self, path: Path) -> str:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

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
