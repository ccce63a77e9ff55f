"""How probable a model finds texts that are given: the forward pass and the head of training, without a gradient."""

from __future__ import annotations

import dataclasses
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
from selfevo_jax.train.objectives.sft import Sft
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
    settings: TrainConfig | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[float]:
    """Log-probability of each example: the sum over its targets of weight times log-probability (nats), in fp32.

    Args:
      params: with their layers apart, fp32.
      examples: one or more; they share rows, as in training, and none reads another.
      settings: of a fine-tuning of these parameters: its rows, precision and fresh adapters, so that the numbers are
        those of its own first step. None: fp32, in rows as the examples need them.
      on_done: called after each batch with the number of examples that are done.

    On a mesh over several processes every one calls it, with equal examples, and has the same result.
    """
    if hosts.is_active() and spans_processes(mesh):
        hosts.barrier("reading log-probabilities")
    sizes = [len(example) for example in examples]
    if settings is None:
        settings, length = TrainConfig(), -(-max(sizes) // _UNIT) * _UNIT
        each = rules.ways("batch", mesh) * max(1, TOKENS // length)
    else:
        length, each = settings.length, settings.batch_rows // settings.accumulate
    program = _program(Form.of(config, dataclasses.replace(settings, objective=Sft()), mesh, rules))
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
        learnt, frozen = form.formed(given), ()
        if form.settings.lora is not None:
            start = form.make(given, jax.random.key(0))  # whatever the draw, fresh adapters add nothing
            learnt, frozen = start.params, start.frozen
        head, hidden, table = states(form, narrow(form, learnt), learnt, frozen, batch)
        ids, weights = shifted(batch)
        found: jax.Array = targets_of(batch).sequences(head.logps(hidden, table, ids, weights)).logps
        return found

    given, rows = param_shardings(form.config, form.mesh, form.rules), batch_sharding(form.mesh, form.rules)
    return jax.jit(logps, in_shardings=(given, rows), out_shardings=replicated(form.mesh))
