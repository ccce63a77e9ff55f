"""A folder of arrays is committed only by who may, and with a note of what its files hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from etils import epath

from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage import is_remote, place, storage_of
from selfevo_jax.untrusted import JSON_BYTES, read_bounded

NOTE = "checksums.json"
"""In a committed folder: name -> digest of every file below it, and a digest of that."""
_READERS = 8


def anybody() -> None:
    """Nobody else can be writing."""


def committing(folder: epath.PathLike, allowed: Callable[[], None] = anybody) -> type[Any]:
    """Orbax's class of temporary folders, for saves below `folder`.

    `allowed` is called when all is written and before it is moved to its name; what it raises ends the save. The files
    are read for their digests then (in a bucket its own checksums are taken), by the process that commits.
    """
    import orbax.checkpoint as ocp

    kinds = ocp.path.atomicity
    base: type[Any] = kinds.CommitFileTemporaryPath if is_remote(folder) else kinds.AtomicRenameTemporaryPath

    class Committing(base):
        async def finalize(self) -> None:
            allowed()
            note(place(self.get()))
            allowed()  # reading may have taken long
            await super().finalize()
            note(place(self.get_final()))

    return Committing


def note(folder: Path) -> None:
    """Writes or completes the note of a folder; files that are in it already are not read again."""
    there = storage_of(folder)
    known = noted(folder) or {}
    names = [file.relative_to(folder).as_posix() for file in there.files(folder)]
    # Orbax writes its own description again when it commits: that is noted after it
    fresh = [n for n in names if n not in known and n != NOTE and (known or not n.endswith("_CHECKPOINT_METADATA"))]
    with ThreadPoolExecutor(_READERS) as pool:
        digests = pool.map(lambda name: there.checksum(folder / name), fresh)
        found = known | dict(zip(fresh, digests, strict=True))
    there.write(folder / NOTE, _sealed(found))


def noted(folder: Path) -> dict[str, str] | None:
    """What the files of a folder should hold; None where that is not known."""
    if not (folder / NOTE).exists():
        return None
    content = read_bounded(folder / NOTE, JSON_BYTES)
    try:
        found: dict[str, str] = json.loads(content)["files"]
        return found if _sealed(found) == content else None
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None


def folder_faults(folder: Path) -> list[str]:
    """The files of a committed folder that do not hold what its note says, or that note itself, a line each."""
    known = noted(folder)
    if known is None:
        return [f"{NOTE}: {'its content has changed' if (folder / NOTE).exists() else 'missing'}"]

    def look(name: str) -> str | None:
        file = folder / name
        if not file.is_file():
            return f"{name}: missing"
        kind = known[name].partition(":")[0]
        return None if storage_of(folder).checksum(file, kind) == known[name] else f"{name}: its content has changed"

    with ThreadPoolExecutor(_READERS) as pool:
        try:
            return [fault for fault in pool.map(look, sorted(known)) if fault is not None]
        except OSError as error:
            raise SelfevoError(f"{folder}: could not be read ({error}); look at the disk") from error


def _sealed(files: dict[str, str]) -> bytes:
    body = json.dumps(files, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return (json.dumps({"files": files, "sha256": digest}, sort_keys=True, indent=1) + "\n").encode()
