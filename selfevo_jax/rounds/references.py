"""Log-probabilities under the parameters that a fine-tuning starts from: read once before it, and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from selfevo_jax import notice
from selfevo_jax.data import Example, Group, Unit
from selfevo_jax.errors import SelfevoError
from selfevo_jax.methods.mixture import PoolMap
from selfevo_jax.progress import Reporter
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.names import META, REFERENCES
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.train import REFERENCE

Read = Callable[[Sequence[Example], Callable[[int], None]], Sequence[float]]
"""From examples to the log-probability of each; it tells how many are done."""


def references_file(dir: RunDir, name: str) -> Path:
    """Of the fine-tuning that makes a checkpoint."""
    return dir.meta(REFERENCES) if name == META else dir.round(int(name), REFERENCES)


def with_references(pools: PoolMap, name: str, dir: RunDir, reporter: Reporter, read: Read) -> PoolMap:
    """The pools, each example with its `REFERENCE`: its own, else from the file of the fine-tuning `name`, which is
    made with `read` where it is not there. Equal examples are read once.

    Raises SelfevoError where the file is there and lacks one.
    """
    lacking: dict[str, Example] = {}
    for example in (e for units, _ in pools.values() for unit in units for e in unit.members):
        if REFERENCE not in example.extras:
            lacking.setdefault(_key(example), example)
    file = references_file(dir, name)
    if lacking and not dir.has(file):
        dir.write_rows(file, _rows(lacking, f"reference log-probabilities for {name}", reporter, read))
    known = _stored(file, dir) if lacking else {}
    if gone := [example.id for key, example in lacking.items() if key not in known]:
        raise SelfevoError(
            f"{file}: no row for {len(gone)} of {len(lacking)} examples that {name} learns from, such as '{gone[0]}'; "
            "restore it from a copy of the run, or move it away and run again"
        )

    def filled(example: Example) -> Example:
        own = example.extras.get(REFERENCE)
        return replace(example, extras={**example.extras, REFERENCE: known[_key(example)] if own is None else own})

    def whole(unit: Unit) -> Unit:
        first, *others = map(filled, unit.members)
        return Group((first, *others)) if others else first

    return {pool: ([whole(unit) for unit in units], share) for pool, (units, share) in pools.items()}


def _key(example: Example) -> str:
    """The same for examples with equal tokens and weights."""
    return hashlib.sha256(example.tokens.tobytes() + example.weights.tobytes()).hexdigest()[:32]


def _rows(lacking: Mapping[str, Example], title: str, reporter: Reporter, read: Read) -> list[dict[str, object]]:
    examples = list(lacking.values())
    with reporter.task(title, len(examples), "examples") as meter:

        def done(count: int) -> None:
            meter.set(count)
            notice.stop_if_given(f"while reading {title}")

        logps = read(examples, done)
    return [
        {"key": key, "id": example.id, "tokens": len(example), "logp": logp}
        for (key, example), logp in zip(lacking.items(), logps, strict=True)
    ]


def _stored(file: Path, dir: RunDir) -> dict[str, float]:
    dir.require(file)
    with understood(file):
        return {row["key"]: float(row["logp"]) for row in read_rows(file)}
