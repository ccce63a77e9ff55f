"""Where files lie. `place` makes a path of what a person gave; `storage_of` knows how to write there.

The only place that tells a disk from object storage.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from etils import epath

from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.lazy import install
from selfevo_jax.storage.base import Lines, LockFile, Seen, Storage
from selfevo_jax.storage.disk import Disk
from selfevo_jax.storage.objects import Objects

__all__ = [
    "Lines",
    "LockFile",
    "Seen",
    "Storage",
    "bring_file",
    "did_you_mean",
    "is_remote",
    "place",
    "refuse_input",
    "storage_of",
]

_DISK, _OBJECTS = Disk(), Objects()


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL."""
    return "://" in os.fspath(path)


def place(path: str | os.PathLike[str]) -> Path:
    """pathlib's path on a disk, and epath's for `gs://`, which has the methods of pathlib's that are used here.

    `~` is the user's home folder. Raises ConfigError for another kind of URL, or where what it takes is not installed.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise ConfigError(f"{name!r}: a name with a NUL byte; name another folder")
    if not is_remote(name):
        return _at_home(Path(path))
    scheme, _, rest = name.partition("://")
    if scheme != "gs" or not rest.strip("/"):
        raise ConfigError(f"{name}: expected a folder of this machine or gs://BUCKET/NAME; nothing else is supported")
    if importlib.util.find_spec("gcsfs") is None:
        raise ConfigError(f"{name}: gcsfs is not installed; install it with: {install('gcs')}")
    import fsspec.config

    # others write too: what was listed once is asked for anew, by epath and Orbax as well
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    return cast(Path, epath.Path(name))


def did_you_mean(path: str | os.PathLike[str]) -> str:
    """For a message about a path where nothing is: ` (did you mean FOLDER/NAME?)`, by what is beside it; empty where
    nothing there has a name like it."""
    missing = Path(path)
    if is_remote(path) or not missing.name:
        return ""
    beside = list[str]()
    with contextlib.suppress(OSError):  # a folder that may be entered need not be listed
        beside = os.listdir(missing.parent)
    found = difflib.get_close_matches(missing.name, beside, n=1)
    return f" (did you mean {missing.parent / found[0]}?)" if found else ""


def _is_one_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two names are those of one file that is there, also by a link or in another spelling. What is no path, as
    `builtin:` and `hf:`, is no file."""
    if is_remote(path) or is_remote(other):
        return os.fspath(path) == os.fspath(other)
    try:
        return place(path).samefile(place(other))
    except (OSError, ConfigError):
        return False


def refuse_input(out: str | os.PathLike[str], reads: Iterable[str | os.PathLike[str] | None]) -> None:
    """Raises ConfigError where a file that is to be written is one of those that are read (None: none)."""
    if (one := next((one for one in reads if one is not None and _is_one_file(out, one)), None)) is not None:
        raise ConfigError(f"{out}: is {os.fspath(one)} itself, which is read and would be lost; name another file")


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: no home folder is known for it; write the whole path") from error


def storage_of(path: str | os.PathLike[str]) -> Storage:
    """What writes at a path."""
    return _OBJECTS if is_remote(path) else _DISK


def bring_file(source: Path, to: Path) -> None:
    """Links or copies a finished file to a name that is free. Raises SelfevoError where it cannot be written."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(source) or is_remote(to):
        with source.open("rb") as found, to.open("wb") as out:
            shutil.copyfileobj(found, out, 1 << 24)
        return
    try:
        os.link(source, to)
    except OSError:  # another disk, or one without links
        try:
            shutil.copyfile(source, to)
        except OSError as error:
            with contextlib.suppress(OSError):
                to.unlink(missing_ok=True)
            raise SelfevoError(
                f"{to}: cannot be written ({error.strerror}); make room, and run the same call again"
            ) from error
