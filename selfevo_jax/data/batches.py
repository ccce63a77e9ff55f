"""Batches by random access: what step s sees is a pure function of (examples, seed, s), so a resume is a number."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import numpy as np

from selfevo_jax.data.examples import Unit
from selfevo_jax.data.packing import Packing, fill_rows, rows_of
from selfevo_jax.errors import ConfigError, EmptySelectionError


@flax.struct.dataclass
class Batch:
    """Packed rows `[B, L]` (or `[A, B, L]` for A micro-batches); `tokens[:, i + 1]` is the target of index i."""

    tokens: Any
    """int32."""
    weights: Any
    """float32: the weight of each token as a target."""
    segment_ids: Any
    """int32, 0 is padding."""
    positions: Any
    """int32, from 0 in each segment."""
    extras: Any = flax.struct.field(default_factory=dict)
    """Name -> float32 `[B, L]`, or `[B, L, K]`: the number of each token, or of its example (`Example.extras`); 0 in
    padding."""

    def micro(self, count: int) -> Batch:
        """The same rows as `count` micro-batches: `[count, B / count, L]` each."""
        batch: Batch = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), self)
        return batch

    def arrays(self) -> tuple[Any, Any, Any, Any]:
        return self.tokens, self.weights, self.segment_ids, self.positions


@dataclass(frozen=True, eq=False)
class _Pool:
    name: str
    examples: Sequence[Unit]
    share: float
    draws: int
    """Examples drawn in one epoch of the mixture."""


@dataclass(frozen=True, eq=False)
class _Epoch:
    drawn: list[Unit]
    rows: list[list[int]]
    """Indices into `drawn`, in the order the rows are used; some may be empty."""


def check_extras(pools: Mapping[str, tuple[Sequence[Unit], float]], extras: Sequence[str]) -> dict[str, int]:
    """Of the extras that have several numbers a token, how many. Raises ConfigError where an example of these pools
    lacks one of the numbers that an objective reads."""
    widths: dict[str, int] = {}
    for name, (units, _) in pools.items():
        for extra in extras:
            of_all = (example for unit in units for example in unit.members)
            if (bare := next((e for e in of_all if extra not in e.extras), None)) is not None:
                found = ", ".join(bare.extras) or "none"
                raise ConfigError(
                    f"batches: the objective reads '{extra}' of each example, but row {bare.id!r} of pool '{name}' "
                    f"has no such number (it has: {found}); the method must set it, or name another objective"
                )
            shapes = (np.shape(e.extras[extra]) for unit in units for e in unit.members)
            widths.update((extra, shape[1]) for shape in shapes if len(shape) > 1)
    return widths


class Batches:
    """A mixture of pools of examples, packed and cut into batches of `batch_rows` rows of `length` tokens. A group
    counts as one example.

    `pools` maps a name to its examples and its share of the *examples drawn* (shares are normalised). An epoch of the
    mixture is the time that the slowest pool (the largest for its share) takes to pass once: each of its examples
    appears exactly once, and faster pools go round several times in their own fresh permutations, each of which ends
    before the next begins. Each epoch is shuffled and packed anew, and the next one follows at once: a batch may hold
    rows of two. With `packing` "shuffled" each epoch has whole batches of its own, over which its rows are spread
    evenly, so that a batch may end in empty rows (segment 0).
    """

    def __init__(
        self,
        pools: Mapping[str, tuple[Sequence[Unit], float]],
        batch_rows: int,
        length: int,
        seed: int,
        packing: Packing = "tight",
        extras: Sequence[str] = (),
    ) -> None:
        """`extras`: the numbers of examples that batches are to have. Raises ConfigError on a bad share or size, or an
        example without one of them, and EmptySelectionError on a pool with a share but no examples."""
        if batch_rows < 1 or length < 2:
            raise ConfigError(f"batches: batch_rows {batch_rows} (1 or more) and length {length} (2 or more)")
        self.batch_rows, self.length, self.seed, self.packing = batch_rows, length, seed, packing
        self._extras = tuple(extras)
        used = {name: pool for name, pool in pools.items() if pool[1] != 0}
        for name, (examples, share) in used.items():
            if not (math.isfinite(share) and share > 0):
                raise ConfigError(f"batches: the share of pool '{name}' is {share}, expected 0 or more")
            if not len(examples):
                raise EmptySelectionError(f"pool '{name}' has a share of {share:g} but holds no example to learn from")
        if not used:
            raise EmptySelectionError("nothing is left to learn from: no pool has a share above 0")
        for name, (examples, _) in used.items():
            fit = [e for e in examples if len(e) > length]
            if fit:
                raise ConfigError(
                    f"batches: row {fit[0].id!r} of pool '{name}' has {len(fit[0])} tokens, but a row holds {length}; "
                    "drop such rows with fit_length first"
                )
        self._widths = check_extras(used, extras)
        total = sum(share for _, share in used.values())
        epoch_draws = max(len(examples) * total / share for examples, share in used.values())
        self._pools = [
            _Pool(name, examples, share / total, max(1, round(share / total * epoch_draws)))
            for name, (examples, share) in used.items()
        ]
        self._starts = [0]
        # two epochs are enough for steps in order, and keep memory flat
        self._epoch = functools.lru_cache(maxsize=2)(self._make_epoch)

    def _rng(self, *path: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, *path]))

    def _draws(self, pool_index: int, epoch: int) -> list[Unit]:
        pool = self._pools[pool_index]
        size = len(pool.examples)
        out: list[Unit] = []
        at, stop = epoch * pool.draws, (epoch + 1) * pool.draws
        while at < stop:
            turn, offset = divmod(at, size)
            order = self._rng(1, pool_index, turn).permutation(size)[offset : offset + stop - at]
            out += [pool.examples[i] for i in order]
            at += len(order)
        return out

    def _make_epoch(self, epoch: int) -> _Epoch:
        drawn = [e for index in range(len(self._pools)) for e in self._draws(index, epoch)]
        rng = self._rng(2, epoch)
        drawn = [drawn[i] for i in rng.permutation(len(drawn))]
        rows = rows_of([len(e) for e in drawn], self.length, self.packing)
        # packing leaves the roomiest rows to the end: shuffled, batches are alike
        rows = [rows[i] for i in rng.permutation(len(rows))]
        if self.packing == "shuffled":
            count, steps = len(rows), -(-len(rows) // self.batch_rows)
            parts = [rows[at * count // steps : (at + 1) * count // steps] for at in range(steps)]
            rows = [row for part in parts for row in [*part, *[[]] * (self.batch_rows - len(part))]]
        return _Epoch(drawn, rows)

    def _locate(self, row: int) -> tuple[int, int]:
        """Epoch of a row, and the row's place in it. Row counts of earlier epochs are needed, not their rows."""
        while self._starts[-1] <= row:
            self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1).rows))
        epoch = bisect.bisect_right(self._starts, row) - 1
        return epoch, row - self._starts[epoch]

    def at(self, step: int) -> tuple[Batch, list[list[str]]]:
        """Batch of a step (numpy, `[batch_rows, length]`), and the ids of the examples in each of its rows."""
        filled: list[list[Unit]] = []
        while len(filled) < self.batch_rows:
            index, place = self._locate(step * self.batch_rows + len(filled))
            epoch = self._epoch(index)
            rows = epoch.rows[place : place + self.batch_rows - len(filled)]
            filled += [[epoch.drawn[i] for i in row] for row in rows]
        packed = fill_rows(filled, self.length, self._extras, self._widths)
        return Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions, packed.extras), packed.ids

    @property
    def steps_per_epoch(self) -> int:
        """Steps that it takes to see the first epoch; a later one may differ by a step, as it is packed anew."""
        return self.steps_in(1.0)

    def steps_in(self, epochs: float) -> int:
        """Steps that so many passes take, by the packed rows of the first, rounded up (1 or more)."""
        return max(1, math.ceil(round(epochs * len(self._epoch(0).rows) / self.batch_rows, 6)))

    @property
    def padding_share(self) -> float:
        """Share of the token places of the first epoch that hold no token."""
        first = self._epoch(0)
        return 1 - sum(map(len, first.drawn)) / (len(first.rows) * self.length)
