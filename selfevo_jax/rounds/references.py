"""What examples say under the parameters that a fine-tuning starts from: read once before it, and stored."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selfevo_jax import notice
from selfevo_jax.data import Example, Group, Unit
from selfevo_jax.errors import SelfevoError
from selfevo_jax.methods.mixture import PoolMap
from selfevo_jax.progress import Reporter
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.names import META, REFERENCES
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.train import REFERENCE, TEACHER_IDS, TEACHER_LOGPS, TOKEN_REFERENCE, StartExtras, with_extras

Read = Callable[[Sequence[Example], Callable[[int], None]], Sequence[StartExtras]]
"""From examples to what was read of each; it tells how many are done."""
_LOGP = "logp"
"""The field of `REFERENCE`; another extra has its own name."""
_KINDS = {TOKEN_REFERENCE: "<f4", TEACHER_IDS: "<i4", TEACHER_LOGPS: "<f4"}
"""How the numbers of an example's targets are stored, one after the other, in base64."""
_SEVERAL = (TEACHER_IDS, TEACHER_LOGPS)


def references_file(dir: RunDir, name: str) -> Path:
    """Of the fine-tuning that makes a checkpoint."""
    return dir.meta(REFERENCES) if name == META else dir.round(int(name), REFERENCES)


def with_references(
    pools: PoolMap, name: str, dir: RunDir, reporter: Reporter, read: Read, extras: Sequence[str] = (REFERENCE,)
) -> PoolMap:
    """The pools, each example with these extras: its own, else from the file of the fine-tuning `name`, which is made
    with `read` where it is not there. Equal examples are read once.

    Raises SelfevoError where the file is there and lacks one.
    """
    taught = TEACHER_IDS in extras
    lacking: dict[str, Example] = {}
    for example in (e for units, _ in pools.values() for unit in units for e in unit.members):
        if not example.extras.keys() >= set(extras):
            lacking.setdefault(_key(example, taught), example)
    file = references_file(dir, name)
    if lacking and not dir.has(file):
        dir.write_rows(file, _rows(lacking, f"reference log-probabilities for {name}", reporter, read))
    known = _stored(file, dir) if lacking else {}
    if gone := [example.id for key, example in lacking.items() if key not in known]:
        raise SelfevoError(
            f"{file}: no row for {len(gone)} of {len(lacking)} examples that {name} learns from, such as '{gone[0]}'; "
            "restore it from a copy of the run, or move it away and run again"
        )
    with understood(file):
        found = {key: _decoded(known[key], example, extras) for key, example in lacking.items()}

    def filled(example: Example) -> Example:
        read = found.get(_key(example, taught), {})
        return replace(example, extras=with_extras(example, read))

    def whole(unit: Unit) -> Unit:
        first, *others = map(filled, unit.members)
        return Group((first, *others)) if others else first

    return {pool: ([whole(unit) for unit in units], share) for pool, (units, share) in pools.items()}


def _key(example: Example, taught: bool) -> str:
    """The same for examples with equal tokens and weights (and the same context of a teacher)."""
    content = example.tokens.tobytes() + example.weights.tobytes()
    if taught and example.teacher is not None:
        content += example.teacher.tokens.tobytes() + example.teacher.weights.tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


def _rows(lacking: Mapping[str, Example], title: str, reporter: Reporter, read: Read) -> list[dict[str, object]]:
    examples = list(lacking.values())
    with reporter.task(title, len(examples), "examples") as meter:

        def done(count: int) -> None:
            meter.set(count)
            notice.stop_if_given(f"while reading {title}")

        found = read(examples, done)
    return [
        {"key": key, "id": example.id, "tokens": len(example), **_encoded(extras)}
        for (key, example), extras in zip(lacking.items(), found, strict=True)
    ]


def _encoded(extras: StartExtras) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, values in extras.items():
        if name == REFERENCE:
            found[_LOGP] = values
        else:
            found[name] = base64.b64encode(np.asarray(values, _KINDS[name]).tobytes()).decode("ascii")
    return found


def _decoded(row: Mapping[str, Any], example: Example, extras: Sequence[str]) -> StartExtras:
    """Raises KeyError or ValueError where the row has not these extras of this example."""
    found: dict[str, float | np.ndarray] = {}
    for name in extras:
        if name == REFERENCE:
            found[name] = float(row[_LOGP])
            continue
        values = np.frombuffer(base64.b64decode(row[name], validate=True), _KINDS[name])
        found[name] = values.reshape(np.count_nonzero(example.weights), *[-1] * (name in _SEVERAL))
    return found


def _stored(file: Path, dir: RunDir) -> dict[str, dict[str, Any]]:
    dir.require(file)
    with understood(file):
        return {row["key"]: row for row in read_rows(file)}
