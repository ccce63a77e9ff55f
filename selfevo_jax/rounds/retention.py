"""Which checkpoints are kept, and whether there is room for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from selfevo_jax.config import SavingSection
from selfevo_jax.errors import SelfevoError
from selfevo_jax.storage import storage_of


def kept(saving: SavingSection, newest: int, direct: Mapping[int, float]) -> set[int]:
    """The rounds (0 is M_meta) up to the newest whose checkpoints stay; `direct` are the accuracies that are known."""
    rounds = range(newest + 1)
    if saving.keep_last is None:
        return set(rounds)
    found = set(rounds[-saving.keep_last :])
    if saving.keep_every is not None:
        found |= {number for number in rounds if number % saving.keep_every == 0}
    if saving.keep_best and direct:
        best = max(direct.values())
        found.add(min(number for number, share in direct.items() if share == best))
    return found


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raises SelfevoError with both numbers where the disk of a folder has not so many bytes left."""
    free = storage_of(folder).free(folder)
    if free is not None and free < needed:
        raise SelfevoError(
            f"{folder}: {what} needs {needed / 1e9:.2f} GB on disk, {free / 1e9:.2f} GB are free; make room (remove "
            "old runs, or set saving.keep_last) and run the same command again"
        )
