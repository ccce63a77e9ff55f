"""How probable a model finds texts that are given: the forward pass and the head of training, without a gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from selfevo_jax import hosts
from selfevo_jax.data import Batch, Example
from selfevo_jax.data.packing import fill_rows, rows_of
from selfevo_jax.model import ModelConfig, param_shardings
from selfevo_jax.sharding import TRAIN_RULES, ShardingRules, batch_sharding, on_devices, replicated, spans_processes
from selfevo_jax.train.loss import shifted
from selfevo_jax.train.objectives.head import targets_of
from selfevo_jax.train.settings import TrainConfig
from selfevo_jax.train.state import Form
from selfevo_jax.train.step import narrow, states

TOKENS = 2048
"""Of a batch on one device, about: few enough to need less memory than any training."""
_UNIT = 128
"""Rows have a multiple of so many tokens."""


def sequence_logps(
    params: Any,
    config: ModelConfig,
    examples: Sequence[Example],
    mesh: Mesh,
    rules: ShardingRules = TRAIN_RULES,
    *,
    on_done: Callable[[int], None] | None = None,
) -> list[float]:
    """Log-probability of each example: the sum over its targets of weight times log-probability (nats), in fp32.

    Args:
      params: with their layers apart, fp32.
      examples: one or more; they share rows, as in training, and none reads another.
      on_done: called after each batch with the number of examples that are done.

    On a mesh over several processes every one calls it, with equal examples, and has the same result.
    """
    if hosts.is_active() and spans_processes(mesh):
        hosts.barrier("reading log-probabilities")
    sizes = [len(example) for example in examples]
    length = -(-max(sizes) // _UNIT) * _UNIT
    each = rules.ways("batch", mesh) * max(1, TOKENS // length)
    program = _program(Form.of(config, TrainConfig(), mesh, rules))
    given = jax.device_put(params, param_shardings(config, mesh, rules))
    layout = batch_sharding(mesh, rules)
    rows, found, done = rows_of(sizes, length, "tight"), [0.0] * len(examples), 0
    for start in range(0, len(rows), each):
        part = rows[start : start + each]
        packed = fill_rows([[examples[i] for i in row] for row in part] + [[]] * (each - len(part)), length)
        batch = Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions)
        logps = jax.device_get(program(given, jax.tree.map(lambda x: on_devices(x, layout), batch)))
        for row, within in zip(logps, part, strict=False):
            for place, i in enumerate(within):
                found[i] = float(row[place])
        done += sum(map(len, part))
        if on_done is not None:
            on_done(done)
    return found


@functools.lru_cache(maxsize=2)
def _program(form: Form) -> Callable[[Any, Batch], jax.Array]:
    """Parameters and a batch `[B, L]` -> log-probabilities of the sequences of its rows `[B, L]`, from the first on."""

    def logps(given: Any, batch: Batch) -> jax.Array:
        params = form.formed(given)
        head, hidden, table = states(form, narrow(form, params), params, (), batch)
        ids, weights = shifted(batch)
        found: jax.Array = targets_of(batch).sequences(head.logps(hidden, table, ids, weights)).logps
        return found

    given, rows = param_shardings(form.config, form.mesh, form.rules), batch_sharding(form.mesh, form.rules)
    return jax.jit(logps, in_shardings=(given, rows), out_shardings=replicated(form.mesh))
