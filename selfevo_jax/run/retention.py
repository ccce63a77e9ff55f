"""Which checkpoint is the best and whether a later one is worse, which are kept, and whether there is room."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import jax

from selfevo_jax.checkpoint import KEPT
from selfevo_jax.errors import SelfevoError
from selfevo_jax.evaluate import paired
from selfevo_jax.model import LoraConfig, ModelConfig, abstract_adapters, param_count
from selfevo_jax.run.names import name_of
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.storage import storage_of
from selfevo_jax.train import SavingSection


def direct_answers(run: RunDir, newest: int) -> dict[int, Mapping[str, bool | None]]:
    """Which rows of the first evaluation set each round up to the newest has right (0 is M_meta), where it is known."""
    first = next(iter(run.load(run.evaluation("base")) or {}), None)
    found = {number: run.load(run.evaluation(name_of(number))) or {} for number in range(newest + 1)}
    return {number: figures[first]["right"]["direct"] for number, figures in found.items() if first in figures}


def worse_than_best(run: RunDir, round: int) -> str | None:
    """Against what, and how much, a round's direct answers on the first set are measurably worse than the best so far;
    None where they are not."""
    direct = direct_answers(run, round)
    before = best({number: right for number, right in direct.items() if number < round})
    found = None if before is None or round not in direct else paired(direct[before], direct[round])
    if before is None or found is None or not found.worse:
        return None
    return (
        f"worse than {name_of(before)}, the best so far ({100 * found.gain:+.1f} points, standard error "
        f"{100 * found.stderr:.1f}, McNemar's exact p {found.p:.2g}, {found.n} rows)"
    )


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


def training_room(model: ModelConfig, lora: LoraConfig | None = None, adapters_alone: bool = False) -> int:
    """Bytes on disk that a fine-tuning takes at most: the states that are kept and the one that is being written, each
    of fp32 parameters and two moments, and then the checkpoint in fp32."""
    whole = param_count(model)
    leaves = [] if lora is None else jax.tree.leaves(abstract_adapters(model, lora))
    trained = sum(math.prod(leaf.shape) for leaf in leaves) if lora is not None else whole
    return 4 * (3 * (KEPT + 1) * trained + (trained if adapters_alone else whole))


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raises SelfevoError with both numbers where the disk of a folder has not so many bytes left."""
    free = storage_of(folder).free(folder)
    if free is not None and free < needed:
        raise SelfevoError(
            f"{folder}: {what} needs {needed / 1e9:.2f} GB on disk, {free / 1e9:.2f} GB are free; make room (remove "
            "old runs, or set saving.keep_last) and run the same command again"
        )
