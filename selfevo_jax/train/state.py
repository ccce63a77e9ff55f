"""What an update changes, and how it lies on the mesh."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from selfevo_jax.model import (
    ModelConfig,
    abstract_adapters,
    abstract_params,
    adapter_axes,
    init_adapters,
    logical_axes,
    param_shardings,
    stack_axes,
    stack_layers,
    unstack_layers,
)
from selfevo_jax.sharding import TRAIN_RULES, ShardingRules, replicated, shardings
from selfevo_jax.train.optimizer import make_optimizer
from selfevo_jax.train.settings import TrainConfig


@flax.struct.dataclass
class TrainState:
    """All that an update changes, and what it rests on."""

    step: Any
    """int32: updates done."""
    params: Any
    """What is learnt, in fp32: the master weights, or the adapters. Stacked where layers are scanned."""
    opt_state: Any
    frozen: Any = ()
    """With adapters: the parameters that they are added to, in the compute dtype."""


@dataclass(frozen=True)
class Form:
    """The trees of a fine-tuning on a mesh. Hashable, and equal where programs are equal."""

    config: ModelConfig
    settings: TrainConfig
    """Without what programs do not depend on: sizes, schedule and seed."""
    mesh: Mesh
    table: tuple[tuple[str, Any], ...]
    replicate_uneven: frozenset[str]
    across: str | None = None
    """The mesh axis that other devices' rows lie over, where this is the form of one device's rows alone."""
    attention: str | None = None
    """A kernel in place of the default one (`TrainAttention.choose`)."""

    @classmethod
    def of(cls, config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules) -> Form:
        compiled = (
            "b1",
            "b2",
            "eps",
            "weight_decay",
            "clip_norm",
            "compute_dtype",
            "first_moment_dtype",
            "remat",
            "lora",
            "objective",
        )
        kept = {name: getattr(settings, name) for name in compiled}
        scan = settings.scan_layers
        kept["scan_layers"] = mesh.devices.flat[0].platform == "tpu" if scan is None else scan
        neutral = TrainConfig(steps=1, warmup_steps=0, **kept)
        return cls(config, neutral, mesh, tuple(sorted(rules.table.items())), rules.replicate_uneven)

    def on_one_device(self, across: str) -> Form:
        """The same for the rows of a single device, which hold no one to a sharding, within a map over an axis."""
        alone = Mesh(self.mesh.devices.reshape(-1)[:1].reshape([1] * self.mesh.devices.ndim), self.mesh.axis_names)
        return replace(self, mesh=alone, across=across)

    @cached_property
    def rules(self) -> ShardingRules:
        return ShardingRules(dict(self.table), self.replicate_uneven)

    @property
    def scan(self) -> bool:
        return bool(self.settings.scan_layers)

    def formed(self, tree: Any) -> Any:
        """Stacks the layers of a tree of arrays where they are scanned."""
        return stack_layers(tree) if self.scan else tree

    @cached_property
    def shapes(self) -> TrainState:
        """Shapes and dtypes of the whole state."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        state: TrainState = jax.eval_shape(self.make, abstract_params(self.config), key)
        return state

    @cached_property
    def base(self) -> Any:
        """Shardings of all the parameters, as a step has them."""
        shapes = self.shapes.params if self.settings.lora is None else self.shapes.frozen
        return self._laid_out(logical_axes(self.config), shapes)

    @cached_property
    def layer(self) -> Any:
        """Shardings of the parameters of one layer."""
        return param_shardings(self.config, self.mesh, self.rules)["layers_0"]

    @cached_property
    def learnt(self) -> Any:
        """Shardings of what is learnt."""
        lora = self.settings.lora
        return self.base if lora is None else self._laid_out(adapter_axes(self.config, lora), self.shapes.params)

    @cached_property
    def state(self) -> TrainState:
        """Shardings of the whole state; the moments lie as their parameters do."""
        optimizer, whole = make_optimizer(self.settings), replicated(self.mesh)
        opt_state = optax.tree_map_params(
            optimizer,
            lambda _, sharding: sharding,
            self.shapes.opt_state,
            self.learnt,
            transform_non_params=lambda _: whole,
        )
        return TrainState(whole, self.learnt, opt_state, () if self.settings.lora is None else self.base)

    def make(self, given: Any, key: jax.Array) -> TrainState:
        """A state at step 0 of parameters with their layers apart."""
        lora = self.settings.lora
        dtype = jnp.float32 if lora is None else self.settings.compute_dtype
        # an explicit copy: a jitted identity would hand the caller's own buffers on, to be donated
        own, frozen = self.formed(jax.tree.map(lambda x: jnp.array(x, dtype, copy=True), given)), ()
        if lora is not None:
            own, frozen = self.formed(init_adapters(self.config, lora, key)), own
        return TrainState(jnp.zeros((), jnp.int32), own, make_optimizer(self.settings).init(own), frozen)

    @cached_property
    def apart(self) -> Any:
        """Shardings of what is learnt with its layers apart."""
        lora = self.settings.lora
        if lora is None:
            return param_shardings(self.config, self.mesh, self.rules)
        return shardings(adapter_axes(self.config, lora), self.mesh, self.rules, abstract_adapters(self.config, lora))

    def _laid_out(self, axes: Any, shapes: Any) -> Any:
        return shardings(stack_axes(axes) if self.scan else axes, self.mesh, self.rules, shapes)


def init_state(
    params: Any, config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules = TRAIN_RULES
) -> TrainState:
    """A state at step 0 with its own copy of `params`, which stay valid although steps donate the state.

    `params` have their layers apart. Adapters are drawn by `settings.seed`.
    """
    form = Form.of(config, settings, mesh, rules)
    given = jax.device_put(params, param_shardings(config, mesh, rules))
    return _makers(form)[0](given, jax.random.key(settings.seed))


def learnt(state: TrainState, config: ModelConfig, settings: TrainConfig, mesh: Mesh, rules: ShardingRules) -> Any:
    """What was learnt, its layers apart: parameters or adapters. `state` is not to be used again."""
    return _makers(Form.of(config, settings, mesh, rules))[1](state.params)


@functools.lru_cache(maxsize=8)
def _makers(form: Form) -> tuple[Callable[..., TrainState], Callable[[Any], Any]]:
    apart: Callable[[Any], Any] = lambda tree: tree  # noqa: E731
    if form.scan:
        apart = jax.jit(unstack_layers, out_shardings=form.apart)
    return jax.jit(form.make, out_shardings=form.state), apart
