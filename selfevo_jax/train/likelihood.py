"""How probable a model finds texts that are given: the forward pass and the head of training, without a gradient."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from selfevo_jax import hosts
from selfevo_jax.data import Batch, Example
from selfevo_jax.data.packing import fill_rows, rows_of
from selfevo_jax.model import ModelConfig, param_shardings
from selfevo_jax.sharding import TRAIN_RULES, ShardingRules, batch_sharding, on_devices, replicated, spans_processes
from selfevo_jax.train.loss import HeadLoss, shifted
from selfevo_jax.train.objectives.head import targets_of
from selfevo_jax.train.objectives.sft import Sft
from selfevo_jax.train.settings import TrainConfig
from selfevo_jax.train.state import Form
from selfevo_jax.train.step import narrow, states

TOKENS = 2048
"""Of a batch on one device, about: few enough to need less memory than any training."""
_UNIT = 128
"""Rows have a multiple of so many tokens."""
OnDone = Callable[[int], None]


def sequence_logps(
    params: Any,
    config: ModelConfig,
    examples: Sequence[Example],
    mesh: Mesh,
    rules: ShardingRules = TRAIN_RULES,
    *,
    settings: TrainConfig | None = None,
    on_done: OnDone | None = None,
) -> list[float]:
    """Log-probability of each example: the sum over its targets of weight times log-probability (nats), in fp32.

    Args:
      params: with their layers apart, fp32.
      examples: one or more; they share rows, as in training, and none reads another.
      settings: of a fine-tuning of these parameters: its rows, precision and fresh adapters, so that the numbers are
        those of its own first step. Where an example is longer than its rows, they are as long as that needs. None:
        fp32, in rows as the examples need them.
      on_done: called after each batch with the number of examples that are done.

    On a mesh over several processes every one calls it, with equal examples, and has the same result.
    """
    return _read(params, config, examples, mesh, rules, settings, on_done, _Sums())


def token_logps(
    params: Any,
    config: ModelConfig,
    examples: Sequence[Example],
    mesh: Mesh,
    rules: ShardingRules = TRAIN_RULES,
    *,
    settings: TrainConfig | None = None,
    on_done: OnDone | None = None,
) -> list[np.ndarray]:
    """Of each example float32 `[T]`: the log-probability of each of its T targets. Arguments: `sequence_logps`."""
    return _read(params, config, examples, mesh, rules, settings, on_done, _Tokens())


def likeliest_tokens(
    params: Any,
    config: ModelConfig,
    examples: Sequence[Example],
    mesh: Mesh,
    rules: ShardingRules = TRAIN_RULES,
    *,
    count: int,
    settings: TrainConfig | None = None,
    on_done: OnDone | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each example two `[T, count]`: the likeliest tokens in the place of each of its T targets (int32), and their
    log-probabilities (float32). Arguments: `sequence_logps`."""
    return _read(params, config, examples, mesh, rules, settings, on_done, _Likeliest(count))


class _Made(Protocol):
    """What is made of a batch on the device, and taken from its rows. Equal where programs are equal."""

    def __hash__(self) -> int: ...

    def arrays(self, head: HeadLoss, hidden: jax.Array, table: jax.Array, batch: Batch) -> Any:
        """`[B, L, ...]`, of head, states and table."""
        ...

    def taken(self, row: Any, place: int, targets: np.ndarray) -> Any:
        """What an example has of its row of the arrays; it is at this place, and its targets have these indices."""
        ...


@dataclass(frozen=True)
class _Sums:
    def arrays(self, head: HeadLoss, hidden: jax.Array, table: jax.Array, batch: Batch) -> Any:
        logps = head.logps(hidden, table, *shifted(batch))
        return targets_of(batch).sequences(logps).logps

    def taken(self, row: np.ndarray, place: int, targets: np.ndarray) -> float:
        return float(row[place])


@dataclass(frozen=True)
class _Tokens:
    def arrays(self, head: HeadLoss, hidden: jax.Array, table: jax.Array, batch: Batch) -> Any:
        return head.logps(hidden, table, *shifted(batch))

    def taken(self, row: np.ndarray, place: int, targets: np.ndarray) -> np.ndarray:
        found: np.ndarray = row[targets]
        return found


@dataclass(frozen=True)
class _Likeliest:
    count: int

    def arrays(self, head: HeadLoss, hidden: jax.Array, table: jax.Array, batch: Batch) -> Any:
        return head.likeliest(hidden, table, shifted(batch)[1], self.count)

    def taken(
        self, row: tuple[np.ndarray, np.ndarray], place: int, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        ids, logps = row
        return ids[targets], logps[targets]


def _read(
    params: Any,
    config: ModelConfig,
    examples: Sequence[Example],
    mesh: Mesh,
    rules: ShardingRules,
    settings: TrainConfig | None,
    on_done: OnDone | None,
    made: _Made,
) -> list[Any]:
    """What `made` takes for each example."""
    if hosts.is_active() and spans_processes(mesh):
        hosts.barrier("reading log-probabilities")
    sizes = [len(example) for example in examples]
    if settings is None or max(sizes) > settings.length:
        length = -(-max(sizes) // _UNIT) * _UNIT
        each = rules.ways("batch", mesh) * max(1, TOKENS // length)
    else:
        length, each = settings.length, settings.batch_rows // settings.accumulate
    form = Form.of(config, dataclasses.replace(settings or TrainConfig(), objective=Sft()), mesh, rules)
    program = _program(form, made)
    given = jax.device_put(params, param_shardings(config, mesh, rules))
    layout = batch_sharding(mesh, rules)
    rows, found, done = rows_of(sizes, length, "tight"), dict[int, Any](), 0
    for start in range(0, len(rows), each):
        part = rows[start : start + each]
        packed = fill_rows([[examples[i] for i in row] for row in part] + [[]] * (each - len(part)), length)
        batch = Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions)
        arrays = jax.device_get(program(given, jax.tree.map(lambda x: on_devices(x, layout), batch)))
        for number, within in enumerate(part):
            row, begin = jax.tree.map(lambda x: x[number], arrays), 0  # noqa: B023
            for place, i in enumerate(within):
                # index n is about token n + 1
                found[i] = made.taken(row, place, begin - 1 + np.flatnonzero(examples[i].weights))
                begin += sizes[i]
        done += sum(map(len, part))
        if on_done is not None:
            on_done(done)
    return [found[i] for i in range(len(examples))]


@functools.lru_cache(maxsize=2)
def _program(form: Form, made: _Made) -> Callable[[Any, Batch], Any]:
    """Parameters and a batch `[B, L]` -> the arrays of `made`."""

    def read(given: Any, batch: Batch) -> Any:
        learnt, frozen = form.formed(given), ()
        if form.settings.lora is not None:
            start = form.make(given, jax.random.key(0))  # whatever the draw, fresh adapters add nothing
            learnt, frozen = start.params, start.frozen
        return made.arrays(*states(form, narrow(form, learnt), learnt, frozen, batch), batch)

    given, rows = param_shardings(form.config, form.mesh, form.rules), batch_sharding(form.mesh, form.rules)
    return jax.jit(read, in_shardings=(given, rows), out_shardings=replicated(form.mesh))
