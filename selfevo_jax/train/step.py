"""One update as a pure function, and its compiled form on a mesh."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from selfevo_jax.data import Batch
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import ModelConfig, Transformer, abstract_params, param_shardings
from selfevo_jax.sharding import TRAIN_RULES, ShardingRules, batch_sharding, replicated
from selfevo_jax.train.loss import chunked_loss_sums, length_chunks
from selfevo_jax.train.optimizer import make_optimizer
from selfevo_jax.train.settings import TrainConfig


@flax.struct.dataclass
class TrainState:
    """All that an update changes."""

    step: Any
    """int32: updates done."""
    params: Any
    """fp32 master weights."""
    opt_state: Any


class _Sums(flax.struct.PyTreeNode):
    """What micro-batches, rows and devices add up to. Nothing in it is a mean."""

    loss: Any
    weight: Any
    targets: Any
    gradient: Any


def gradient_sums(params: Any, batch: Batch, model: Transformer, shards: int, layout: Any) -> _Sums:
    """Loss, weight and gradient sums of a batch `[A, B, L]`, one micro-batch after the other.

    `shards` is the number of devices a micro-batch's rows lie on, `layout` the shardings of the gradient.
    """

    def loss(p: Any, micro: Batch) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        variables = {"params": p}
        with jax.named_scope("forward"):
            hidden, _ = model.apply(
                variables, micro.tokens, micro.positions, segment_ids=micro.segment_ids, method=Transformer.hidden
            )
        rows, length = micro.tokens.shape
        chunks = length_chunks(-(-rows // shards), length, model.config.vocab_size)

        def unembed(states: jax.Array) -> jax.Array:
            logits: Any = model.apply(variables, states, method=Transformer.unembed)
            return logits

        with jax.named_scope("loss"):
            total, weight, metrics = chunked_loss_sums(hidden, unembed, micro, chunks)
        return total, (weight, metrics["targets"])

    def one(micro: Batch) -> _Sums:
        (total, (weight, targets)), gradient = jax.value_and_grad(loss, has_aux=True)(params, micro)
        return _Sums(total, weight, targets, jax.lax.with_sharding_constraint(gradient, layout))

    if batch.tokens.shape[0] == 1:
        return one(jax.tree.map(lambda x: x[0], batch))

    def add(sums: _Sums, micro: Batch) -> tuple[_Sums, None]:
        return jax.tree.map(jnp.add, sums, one(micro)), None

    zero = jnp.zeros((), jnp.float32)
    start = _Sums(zero, zero, jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, start, batch)[0]


def state_shardings(config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules) -> TrainState:
    """NamedShardings of the whole state; the moments lie as their parameters do."""
    layout = param_shardings(config, mesh, rules)
    optimizer = make_optimizer(settings)
    whole = replicated(mesh)
    opt_state = optax.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        jax.eval_shape(optimizer.init, abstract_params(config)),
        layout,
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, layout, opt_state)


def init_state(
    params: Any, config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules = TRAIN_RULES
) -> TrainState:
    """A state at step 0 with its own fp32 copy of `params`, which stay valid although steps donate the state."""
    layout, make = _init_state(*_program_key(config, settings, mesh, rules))
    return make(jax.device_put(params, layout.params))


def check_rows(settings: TrainConfig, mesh: Mesh, rules: ShardingRules) -> int:
    """Devices that share the rows of a micro-batch. Raises ConfigError when the rows do not divide over them."""
    shards = rules.ways("batch", mesh)
    unit = shards * settings.accumulate
    if settings.batch_rows % unit:
        below, above = settings.batch_rows // unit * unit, -(-settings.batch_rows // unit) * unit
        raise ConfigError(
            f"training: batch_rows {settings.batch_rows} do not divide over {shards} devices (mesh "
            f"{dict(mesh.shape)}) times {settings.accumulate} micro-batches; use "
            f"{f'{below} or {above}' if below else above}"
        )
    return shards


TrainStep = Callable[[TrainState, Batch, Any], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules = TRAIN_RULES
) -> TrainStep:
    """Compiled `(state, batch [A, B, L], learning rate) -> (state, metrics)`. The state is donated.

    Metrics are fp32 scalars on the device: `loss` (sum of w * nll over sum of w), `grad_norm` (before clipping),
    `targets` (number of target tokens). Programs are kept and shared by calls that differ in schedule or seed alone.
    """
    shards = check_rows(settings, mesh, rules)
    return _train_step(*_program_key(config, settings, mesh, rules), shards)


_COMPILED_IN = ("b1", "b2", "eps", "weight_decay", "clip_norm", "compute_dtype")

_Key = tuple[ModelConfig, TrainConfig, Mesh, tuple[tuple[str, Any], ...], frozenset[str]]


def _program_key(config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules) -> _Key:
    """Hashable, and equal for runs whose programs are equal: schedule, sizes and seed are values or shapes."""
    compiled = {name: getattr(settings, name) for name in _COMPILED_IN}
    neutral = TrainConfig(steps=1, warmup_steps=0, **compiled)
    return config, neutral, mesh, tuple(sorted(rules.table.items())), rules.replicate_uneven


@functools.lru_cache(maxsize=8)
def _init_state(
    config: ModelConfig,
    settings: TrainConfig,
    mesh: Mesh,
    table: tuple[tuple[str, Any], ...],
    uneven: frozenset[str],
) -> tuple[TrainState, Callable[[Any], TrainState]]:
    layout = state_shardings(config, settings, mesh, ShardingRules(dict(table), uneven))

    def make(given: Any) -> TrainState:
        # an explicit copy: a jitted identity would hand the caller's own buffers on, to be donated
        own = jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=True), given)
        return TrainState(jnp.zeros((), jnp.int32), own, make_optimizer(settings).init(own))

    return layout, jax.jit(make, out_shardings=layout)


@functools.lru_cache(maxsize=8)
def _train_step(
    config: ModelConfig,
    settings: TrainConfig,
    mesh: Mesh,
    table: tuple[tuple[str, Any], ...],
    uneven: frozenset[str],
    shards: int,
) -> TrainStep:
    rules = ShardingRules(dict(table), uneven)
    layout = state_shardings(config, settings, mesh, rules)
    optimizer = make_optimizer(settings)
    model = Transformer(config, dtype=jnp.dtype(settings.compute_dtype))
    whole = replicated(mesh)

    def step(state: TrainState, batch: Batch, rate: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        sums = gradient_sums(state.params, batch, model, shards, layout.params)
        weight = jnp.maximum(sums.weight, jnp.finfo(jnp.float32).tiny)
        gradient = jax.tree.map(lambda g: g / weight, sums.gradient)
        metrics = {
            "loss": sums.loss / weight,
            "grad_norm": jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient))),
            "targets": sums.targets.astype(jnp.float32),
        }
        with jax.named_scope("update"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
            params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(layout, batch_sharding(mesh, rules, leading=1), whole),
        out_shardings=(layout, whole),
    )


def lower_train_step(
    config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules = TRAIN_RULES
) -> tuple[jax.stages.Lowered, TrainState]:
    """The very step that training runs, before it is compiled, and the shapes and shardings of its state.

    The mesh may be of devices that are not there (a topology): nothing is run and no array is made.
    """
    step: Any = make_train_step(config, settings, mesh, rules)
    params = abstract_params(config)
    shapes = TrainState(
        jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(make_optimizer(settings).init, params)
    )
    layout = state_shardings(config, settings, mesh, rules)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layout)
    rows = (settings.accumulate, settings.batch_rows // settings.accumulate, settings.length)
    by_rows, whole = batch_sharding(mesh, rules, leading=1), replicated(mesh)

    def part(dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(rows, dtype, sharding=by_rows)

    batch = Batch(
        tokens=part(jnp.int32), weights=part(jnp.float32), segment_ids=part(jnp.int32), positions=part(jnp.int32)
    )
    return step.lower(state, batch, jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)), state
