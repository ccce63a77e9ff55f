"""What an interrupted save left is moved out of the way: never removed, never in the way of the next one."""

from __future__ import annotations

from itertools import count

from etils import epath

ASIDE = "aside"
"""The folder for it, beside the folder that it was found in."""

MARK = "commit_success.txt"
"""What tells a finished folder of arrays from an unfinished one where a folder cannot be moved: on object storage."""


def set_aside(partial: epath.Path, to: epath.Path | None = None) -> epath.Path:
    """Moves a file or folder to `to` (None: `ASIDE` beside its folder), under a name that is free; where it is then."""
    folder = partial.parent.parent / ASIDE if to is None else to
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{partial.parent.name}.{partial.name.lstrip('.')}"
    there = next(place for n in count(1) if not (place := folder / f"{name}.{n}").exists())
    return partial.rename(there)
