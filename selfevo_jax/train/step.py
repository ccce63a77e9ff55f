"""One update as a pure function, and its compiled form on a mesh."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from selfevo_jax.data import Batch
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import ExpertMesh, ModelConfig, TrainAttention, Transformer, hidden_states, scaled_adapters
from selfevo_jax.model.params import STACKED
from selfevo_jax.sharding import TRAIN_RULES, ShardingRules, batch_sharding, laid_out, replicated, sizes_of
from selfevo_jax.train.loss import HeadLoss
from selfevo_jax.train.objectives.head import extra_shapes, objective_sums, shown_by
from selfevo_jax.train.optimizer import make_optimizer
from selfevo_jax.train.ordered import ordered_axis, sums_in_order
from selfevo_jax.train.settings import TrainConfig
from selfevo_jax.train.state import Form, TrainState


class _Sums(flax.struct.PyTreeNode):
    """What micro-batches, rows and devices add up to. Nothing in it is a mean."""

    loss: Any
    weight: Any
    targets: Any
    figures: Any
    gradient: Any


@jax.custom_vjp
def _narrowed(master: jax.Array, like: jax.Array) -> jax.Array:
    """`master` in the dtype of `like`, which alone has a gradient: what the products make, in their own dtype."""
    return _rounded(master, like.dtype)


def _rounded(x: jax.Array, dtype: Any) -> jax.Array:
    """`x.astype(dtype)`. XLA moves a cast alone out of the loop over layers, where it makes copies of all of them."""
    if jnp.finfo(dtype).bits < jnp.finfo(x.dtype).bits:
        x = jax.lax.reduce_precision(x, jnp.finfo(dtype).nexp, jnp.finfo(dtype).nmant)
    return x.astype(dtype)


_narrowed.defvjp(lambda master, like: (_rounded(master, like.dtype), None), lambda _, given: (None, given))


def narrow(form: Form, learnt: Any) -> Any:
    """What to differentiate by in place of `learnt`: in it the layers' matrices are zeros of the compute dtype.

    Their values come from the masters, but their gradient stays in the dtype that it is made in: a gradient of all
    layers in fp32 would hold the same numbers in twice the memory. It adds up in fp32. Adapters stay as they are.
    """
    if form.settings.lora is not None:
        return learnt
    dtype, stacked = jnp.dtype(form.settings.compute_dtype), int(form.scan)
    layers = {name: part for name, part in learnt.items() if name.startswith(STACKED)}
    like = jax.tree.map(lambda x: jnp.zeros(x.shape, dtype if x.ndim > 1 + stacked else x.dtype), layers)
    return learnt | like


def states(form: Form, by: Any, learnt: Any, frozen: Any, micro: Batch) -> tuple[HeadLoss, jax.Array, jax.Array]:
    """What log-probabilities of a micro-batch `[B, L]` are made of: the head, states `[B, L, D]`, and its table.

    `by` is what to differentiate by: `narrow(form, learnt)`.
    """
    settings, mesh, rules = form.settings, form.mesh, form.rules
    lora, dtype = settings.lora, jnp.dtype(settings.compute_dtype)
    masters, params, adapters = (learnt, by, None) if lora is None else (frozen, frozen, scaled_adapters(by, lora))
    params = {n: (masters[n], part) if n.startswith(STACKED) else part for n, part in params.items()}
    model = Transformer(form.config, dtype=dtype, experts=ExpertMesh.of(form.config, mesh, rules))
    kernel = TrainAttention.choose(form.config, mesh, rules, dtype, micro.tokens.shape[1], form.attention)
    alone = mesh.size == 1
    whole_rows = batch_sharding(mesh, rules)

    def in_place(master: jax.Array, like: jax.Array, layout: Any) -> jax.Array:
        # the same constraint holds the gradient. Between the product that makes it and the constraint there must be no
        # cast, or the compiler makes the sum over devices an all-reduce in place of a reduce-scatter
        x = _narrowed(master, like)
        return x if alone else jax.lax.with_sharding_constraint(x, layout)

    with jax.named_scope("forward"):
        hidden = hidden_states(
            model,
            params,
            micro.tokens,
            micro.positions,
            micro.segment_ids,
            remat=settings.remat,
            adapters=adapters,
            attend=None if kernel is None else functools.partial(kernel.within, micro.segment_ids),
            constrain=lambda x: x if alone else jax.lax.with_sharding_constraint(x, whole_rows),
            prepare_layer=lambda pair: jax.tree.map(in_place, *pair, form.layer),
        )
    tied, cap = form.config.tie_embeddings, form.config.logit_softcap
    table, layout = (tree["embedding"] if tied else tree["head"]["kernel"] for tree in (params, form.base))
    return HeadLoss(tied, layout, rules.mesh_axes("batch"), learns=lora is None, softcap=cap), hidden, table


def loss_sums(
    form: Form, by: Any, learnt: Any, frozen: Any, micro: Batch
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """The objective's sum, and what it is divided by, the number of targets and the sums and counts of its figures, of
    one micro-batch `[B, L]`.

    Arguments: as for `states`.
    """
    head, hidden, table = states(form, by, learnt, frozen, micro)
    with jax.named_scope("loss"):
        total, *others = objective_sums(form.settings.objective, head, hidden, table, micro, form.across)
    weight, targets, figures = others
    return total, (weight, targets, figures)


def gradient_sums(form: Form, params: tuple[Any, Any], batch: Batch) -> _Sums:
    """Loss, weight and gradient sums of a batch `[A, B, L]`, one micro-batch after the other.

    `params` is what is learnt and what is frozen (`TrainState`).
    """
    learnt, frozen = params

    def one(micro: Batch) -> _Sums:
        def loss(by: Any) -> Any:
            return loss_sums(form, by, learnt, frozen, micro)

        (total, (weight, targets, figures)), gradient = jax.value_and_grad(loss, has_aux=True)(narrow(form, learnt))
        if form.mesh.size > 1:
            gradient = jax.lax.with_sharding_constraint(gradient, form.learnt)
        return _Sums(total, weight, targets, figures, gradient)

    if batch.tokens.shape[0] == 1:
        return one(jax.tree.map(lambda x: x[0], batch))

    def add(sums: _Sums, micro: Batch) -> tuple[_Sums, None]:
        return jax.tree.map(jnp.add, sums, one(micro)), None

    zero, figures = jnp.zeros((), jnp.float32), jnp.zeros((len(shown_by(form.settings.objective)), 2))
    start = _Sums(zero, zero, jnp.zeros((), jnp.int32), figures, jax.tree.map(jnp.zeros_like, learnt))
    return jax.lax.scan(add, start, batch)[0]


def check_settings(settings: TrainConfig, mesh: Mesh, rules: ShardingRules = TRAIN_RULES) -> None:
    """Raises ConfigError when the rows do not divide over devices and micro-batches, or remat asks for memory that the
    platform has not."""
    shards = rules.ways("batch", mesh)
    unit = shards * settings.accumulate
    if settings.batch_rows % unit:
        below, above = settings.batch_rows // unit * unit, -(-settings.batch_rows // unit) * unit
        raise ConfigError(
            f"training: batch_rows {settings.batch_rows} do not divide over {shards} devices (mesh "
            f"{sizes_of(mesh)}) times {settings.accumulate} micro-batches; use "
            f"{f'{below} or {above}' if below else above}"
        )
    if settings.remat == "offload" and mesh.devices.flat[0].platform == "cpu":
        raise ConfigError(
            "training: remat is 'offload', but a CPU has no memory of a host beside its own; use 'full', 'minimal' or "
            "'none'"
        )


TrainStep = Callable[[TrainState, Batch, Any], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    config: ModelConfig,
    settings: TrainConfig,
    mesh: Mesh,
    rules: ShardingRules = TRAIN_RULES,
    attention: str | None = None,
) -> TrainStep:
    """Compiled `(state, batch [A, B, L], learning rate) -> (state, metrics)`. The state is donated.

    Metrics are fp32 scalars on the device: `loss` (of the objective, over the whole batch), `grad_norm` (before
    clipping), `targets` (number of target tokens), and the figures of the objective, NaN where there is nothing to take
    a mean of. Programs are kept and shared by calls that differ in schedule or seed alone. `attention` names one of
    `TrainAttention.choices`, or the plain path, in place of the default.
    """
    check_settings(settings, mesh, rules)
    form = dataclasses.replace(Form.of(config, settings, mesh, rules), attention=attention)
    step: TrainStep = _train_step(form)
    return step


@functools.lru_cache(maxsize=8)
def _train_step(form: Form) -> Any:
    layout, optimizer, whole = form.state, make_optimizer(form.settings), replicated(form.mesh)
    axis = ordered_axis(form.mesh, form.rules)
    all_sums: Callable[[Any, Batch], _Sums] = functools.partial(gradient_sums, form)
    if axis is not None:
        all_sums = sums_in_order(functools.partial(gradient_sums, form.on_one_device(axis)), form.mesh, axis)

    def step(state: TrainState, batch: Batch, rate: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        sums = all_sums((state.params, state.frozen), batch)
        weight = jnp.maximum(sums.weight, jnp.finfo(jnp.float32).tiny)
        gradient = jax.tree.map(lambda g: g.astype(jnp.float32) / weight, sums.gradient)
        metrics = {
            "loss": sums.loss / weight,
            "grad_norm": jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient))),
            "targets": sums.targets.astype(jnp.float32),
        }
        for name, (total, count) in zip(shown_by(form.settings.objective), sums.figures, strict=True):
            metrics[name] = total / count  # of nothing: NaN
        with jax.named_scope("update"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
            params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        return TrainState(state.step + 1, params, opt_state, state.frozen), metrics

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(layout, batch_sharding(form.mesh, form.rules, leading=1), whole),
        out_shardings=(layout, whole),
        compiler_options=_TPU_OPTIONS if form.mesh.devices.flat[0].platform == "tpu" else None,
    )


_TPU_OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}
"""Without it the compiler makes thousands of permutes of most FSDP gathers (modelled 1.4 times slower on v6e-16)."""


def gradient_shapes(config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules = TRAIN_RULES) -> Any:
    """Shapes, dtypes and shardings of the gradient that a micro-batch gives."""
    form = Form.of(config, settings, mesh, rules)
    return laid_out(jax.eval_shape(functools.partial(narrow, form), form.shapes.params), form.learnt)


def lower_train_step(
    config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules = TRAIN_RULES
) -> tuple[Any, TrainState]:
    """The step lowered for the mesh, which may be of devices that are not there, and the state's abstract arrays."""
    check_settings(settings, mesh, rules)
    form = Form.of(config, settings, mesh, rules)
    state = laid_out(form.shapes, form.state)
    shape = (settings.accumulate, settings.batch_rows // settings.accumulate, settings.length)
    rows = batch_sharding(mesh, rules, leading=1)
    kinds = (jnp.int32, jnp.float32, jnp.int32, jnp.int32)
    tokens, weights, ids, positions = (jax.ShapeDtypeStruct(shape, kind, sharding=rows) for kind in kinds)
    extras = {
        name: jax.ShapeDtypeStruct((*shape, *wide), jnp.float32, sharding=rows)
        for name, wide in extra_shapes(settings.objective).items()
    }
    batch = Batch(tokens, weights, ids, positions, extras)
    rate = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
    return _train_step(form).lower(state, batch, rate), state
