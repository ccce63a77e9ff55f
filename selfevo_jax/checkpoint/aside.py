"""What an interrupted save left is moved out of the way: never removed, never in the way of the next one."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from selfevo_jax.storage import place, storage_of

ASIDE = "quarantine"
"""The folder for it, beside the folder that it was found in."""

MARK = "commit_success.txt"
"""What tells a finished folder of arrays from an unfinished one where a folder cannot be moved: on object storage."""


def set_aside(partial: str | os.PathLike[str], to: Path | None = None) -> Path:
    """Moves a file or folder to `to` (None: `ASIDE` beside its folder), under a name that is free; where it is then."""
    found = place(partial)
    there = free_name(found, found.parent.parent / ASIDE if to is None else to)
    storage_of(found).move(found, there)
    return there


def free_name(found: Path, folder: Path) -> Path:
    """A name in a folder that is free, for what was found elsewhere."""
    name = f"{found.parent.name}.{found.name.lstrip('.')}"
    return next(free for n in count(1) if not (free := folder / f"{name}.{n}").exists())
