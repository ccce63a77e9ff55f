"""Files as objects of a bucket (Google Cloud Storage): written whole in one request, never appended to or renamed.

What must be decided by one process alone is a write on a condition: it takes place only where the object is still of
the generation that was seen (0: where there is none).
"""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from etils import epath

from selfevo_jax.errors import SelfevoError, first_line
from selfevo_jax.storage.base import Seen
from selfevo_jax.storage.disk import digest_of
from selfevo_jax.storage.segments import Segments

AT_ONCE = 16
"""Requests that are under way side by side."""


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Makes what the service says of a failed request one clear line, and an error that cannot pass for success."""
    try:
        yield
    except (SelfevoError, FileExistsError, FileNotFoundError):
        raise
    except Exception as error:  # of the client, its HTTP library or its credentials: there is no common class
        raise SelfevoError(
            f"{path}: the bucket did not do it ({first_line(error)}); what was finished before is as it was. Look at "
            "the bucket, the network and the rights to it, and run the same command again"
        ) from error


def filesystem() -> Any:
    """The client of the bucket; listings are always asked for anew, since other processes write too."""
    import fsspec

    return fsspec.filesystem("gcs")


def as_path(name: str) -> Path:
    """An object's path; it has the methods of pathlib's that a run uses."""
    return cast(Path, epath.Path(f"gs://{name}"))


def seconds(of: dict[str, Any]) -> float:
    """Unix seconds of an object's last write, by the clock of the storage."""
    return datetime.fromisoformat(of["updated"]).timestamp()


class Objects:
    """Storage in a bucket."""

    def reach(self, folder: Path) -> None:
        self.metadata(folder / "config.yaml")

    def refuse_links(self, folder: Path) -> None:
        pass

    def metadata(self, path: Path) -> dict[str, Any] | None:
        """What the bucket knows of an object; None where there is none."""
        bucket, name = _split(path)
        with told(path):
            try:
                found: dict[str, Any] = filesystem().call("GET", "b/{}/o/{}", bucket, name, json_out=True)
            except FileNotFoundError:
                return None
        return found

    def upload(self, path: Path, content: bytes, generation: str | None = None) -> dict[str, Any]:
        """Writes an object, on a condition where a generation is given, and returns what the bucket knows of it.

        Raises FileExistsError where the condition does not hold.
        """
        bucket, name = _split(path)
        client = filesystem()
        to = f"{client.base.removesuffix('/storage/v1/')}/upload/storage/v1/b/{bucket}/o"
        given = {} if generation is None else {"ifGenerationMatch": generation}
        with told(path):
            try:
                made: dict[str, Any] = client.call(
                    "POST",
                    to,
                    uploadType="media",
                    name=name,
                    headers={"Content-Type": "application/octet-stream"},
                    data=content,
                    json_out=True,
                    **given,
                )
            except FileExistsError:
                # an answer that was lost makes the client ask again: the condition is then broken by its own write
                there = self.metadata(path)
                if there is None or self.content(path) != content:
                    raise
                made = there
            except FileNotFoundError as error:
                raise OSError("no such bucket") from error
        return made

    def content(self, path: Path) -> bytes:
        """Raises FileNotFoundError where there is none."""
        with told(path):
            found: bytes = filesystem().cat_file(str(path))
        return found

    def contents(self, paths: list[Path]) -> list[bytes]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.content, paths))

    def delete(self, path: Path, generation: str | None = None) -> bool:
        """Removes an object where it is there; False where a generation is given and it is of another."""
        bucket, name = _split(path)
        given = {} if generation is None else {"ifGenerationMatch": generation}
        with told(path), contextlib.suppress(FileNotFoundError):
            try:
                filesystem().call("DELETE", "b/{}/o/{}", bucket, name, **given)
            except FileExistsError:
                return False
        return True

    def write(self, path: Path, content: bytes) -> None:
        self.upload(path, content)

    def note(self, path: Path, content: bytes) -> None:
        self.upload(path, content)

    def claim(self, path: Path, content: bytes) -> None:
        with contextlib.suppress(FileExistsError):
            self.upload(path, content, "0")

    def modified(self, path: Path) -> float:
        found = self.metadata(path)
        return max(self._known(path).values(), default=0.0) if found is None else seconds(found)

    def size(self, path: Path) -> int:
        return int((self.metadata(path) or {"size": 0})["size"])

    def checksum(self, path: Path, kind: str | None = None) -> str:
        found = self.metadata(path) or {}
        for own, key in (("md5", "md5Hash"), ("crc32c", "crc32c")):  # composed objects have no md5
            if key in found and kind in (None, own):
                return f"{own}:{found[key]}"
        if kind is not None:
            return digest_of(io.BytesIO(self.content(path)), kind)
        raise SelfevoError(f"{path}: the bucket has no checksum of it; upload the file again")

    def files(self, folder: Path) -> list[Path]:
        return sorted(map(as_path, self._known(folder)))

    def _known(self, folder: Path) -> dict[str, float]:
        """When the objects below a folder were written, by their names."""
        with told(folder):
            found = filesystem().find(f"{folder}/", detail=True)
        return {name: seconds(info) for name, info in found.items() if not name.endswith("/")}

    def remove(self, folder: Path) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.delete, self.files(folder)))

    def move(self, path: Path, to: Path) -> None:
        """Copies, then removes: a kill in between leaves both."""
        below = [(file, to / file.relative_to(path)) for file in self.files(path)]
        if not below:
            below = [(path, to)]
        with told(path), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda pair: filesystem().cp_file(str(pair[0]), str(pair[1])), below))
            list(pool.map(lambda pair: self.delete(pair[0]), below))

    def free(self, folder: Path) -> None:
        return None

    def lines(self, path: Path) -> Segments:
        return Segments(path, self)

    def lock_file(self, path: Path) -> ObjectLockFile:
        return ObjectLockFile(path, self)


class ObjectLockFile:
    """An object that is made where there is none, and written again as a sign of life while it is of one's own
    generation."""

    def __init__(self, path: Path, objects: Objects) -> None:
        self.path, self._objects = path, objects
        self._own: tuple[bytes, str] | None = None

    def create(self, content: bytes) -> bool:
        return self._put(content, "0")

    def _put(self, content: bytes, generation: str) -> bool:
        try:
            made = self._objects.upload(self.path, content, generation)
        except FileExistsError:
            return False
        self._own = content, made["generation"]
        return True

    def look(self) -> Seen | None:
        while (found := self._objects.metadata(self.path)) is not None:
            content = self._objects.content(self.path)
            again = self._objects.metadata(self.path)
            if again is not None and again["generation"] == found["generation"]:
                return Seen(content, found["generation"], seconds(found))
        return None

    def age(self, seen: Seen) -> float:
        probe = self.path.with_name(f"{self.path.name}.now.{secrets.token_hex(4)}")
        now = seconds(self._objects.upload(probe, b""))
        self._objects.delete(probe)
        return now - seen.beaten

    def beat(self) -> None:
        if self._own is None:
            raise FileNotFoundError(str(self.path))
        if not self._put(*self._own):
            raise FileNotFoundError(str(self.path))

    def swap(self, seen: Seen, content: bytes | None) -> bool:
        if content is None:
            return self._objects.delete(self.path, seen.sign)
        return self._put(content, seen.sign)


def _split(path: Path) -> tuple[str, str]:
    bucket, _, name = str(path).partition("://")[2].partition("/")
    return bucket, name
