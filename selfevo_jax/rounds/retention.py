"""Which checkpoints are kept, and whether there is room for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from selfevo_jax.config import SavingSection
from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage import storage_of


def best(direct: Mapping[int, Mapping[str, bool | None]]) -> int | None:
    """The round (0 is M_meta) with the most right direct answers, the earliest of equals; `direct` says of each round's
    rows whether they are right (None: could not be run). None where nothing was measured."""
    shares = {number: fmean(asked) for number, right in direct.items() if (asked := _asked(right))}
    return min(shares, key=lambda number: (-shares[number], number), default=None)


def _asked(right: Mapping[str, bool | None]) -> list[bool]:
    return [hit for hit in right.values() if hit is not None]


def kept(saving: SavingSection, newest: int, best: int | None) -> set[int]:
    """The rounds (0 is M_meta) up to the newest whose checkpoints stay, the `best` one among them where it is given."""
    rounds = range(newest + 1)
    if saving.keep_last is None:
        return set(rounds)
    found = set(rounds[-saving.keep_last :])
    if saving.keep_every is not None:
        found |= {number for number in rounds if number % saving.keep_every == 0}
    return found if best is None else found | {best}


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raises SelfevoError with both numbers where the disk of a folder has not so many bytes left."""
    free = storage_of(folder).free(folder)
    if free is not None and free < needed:
        raise SelfevoError(
            f"{folder}: {what} needs {needed / 1e9:.2f} GB on disk, {free / 1e9:.2f} GB are free; make room (remove "
            "old runs, or set saving.keep_last) and run the same command again"
        )
