"""Parameter trees, all derived from the module's own declarations: shapes, logical axes, sharded initial values."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.transformer import Transformer
from selfevo_jax.sharding import ShardingRules, shardings

STACKED = "layers"
"""Where a tree keeps its layers stacked, for a scan over them."""


def _init(config: ModelConfig, key: jax.Array, param_dtype: Any) -> Any:
    zeros = jnp.zeros((1, 1), jnp.int32)
    return Transformer(config, param_dtype=param_dtype).init(key, zeros, zeros)["params"]


@functools.cache
def _declared(config: ModelConfig, param_dtype: Any) -> Any:
    # all layers declare the same: tracing one of them saves seconds for a model of 32
    one = config.of_layers(1)
    declared = jax.eval_shape(lambda: _init(one, jax.random.key(0), param_dtype))
    return declared | {f"{STACKED}_{i}": declared[f"{STACKED}_0"] for i in range(config.n_layers)}


def abstract_params(config: ModelConfig, param_dtype: Any = jnp.float32, stacked: bool = False) -> Any:
    """Nested dict of ShapeDtypeStruct; int8 brings the scales along. `stacked`: as `stack_layers` makes them."""
    apart = nn.unbox(_declared(config, jnp.dtype(param_dtype)))

    def stack(*layers: Any) -> Any:
        return jax.ShapeDtypeStruct((len(layers), *layers[0].shape), layers[0].dtype)

    return stack_layers(apart, stack) if stacked else apart


def logical_axes(config: ModelConfig, param_dtype: Any = jnp.float32) -> Any:
    """Nested dict of tuples of logical axis names, one name (or None) a dimension."""
    declared = _declared(config, jnp.dtype(param_dtype))
    return jax.tree.map(
        tuple, nn.get_partition_spec(declared), is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec)
    )


def param_shardings(
    config: ModelConfig, mesh: Mesh, rules: ShardingRules, param_dtype: Any = jnp.float32, stacked: bool = False
) -> Any:
    """Nested dict of NamedSharding of the parameters, or as `stack_layers` makes them."""
    axes = logical_axes(config, param_dtype)
    shapes = abstract_params(config, param_dtype, stacked)
    return shardings(stack_axes(axes) if stacked else axes, mesh, rules, shapes)


def layer_names(params: Any) -> list[str]:
    """`layers_0`, `layers_1`, ... of a tree, in order."""
    return [f"{STACKED}_{i}" for i in range(sum(name.startswith(f"{STACKED}_") for name in params))]


def stack_layers(params: Any, stack: Callable[..., Any] = lambda *leaves: jnp.stack(leaves)) -> Any:
    """The tree with `layers`, each leaf with the layers as first axis, in place of `layers_0`, `layers_1`, ...

    `stack` makes one leaf of those of all layers.
    """
    names = layer_names(params)
    rest = {name: leaf for name, leaf in params.items() if name not in names}
    layers = (params[name] for name in names)
    return {**rest, STACKED: jax.tree.map(stack, *layers, is_leaf=lambda node: isinstance(node, tuple))}


def stack_axes(axes: Any) -> Any:
    """Logical axes of `stack_layers(params)`, of those of `params`; layers are split over no device."""
    return stack_layers(axes, lambda first, *_: (None, *first))


def unstack_layers(params: Any) -> Any:
    """The inverse of `stack_layers`."""
    rest = {name: leaf for name, leaf in params.items() if name != STACKED}
    count = jax.tree.leaves(params[STACKED])[0].shape[0]
    return rest | {f"{STACKED}_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], params[STACKED]) for i in range(count)}


def init_params(
    config: ModelConfig,
    key: jax.Array,
    mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
    param_dtype: Any = jnp.float32,
) -> Any:
    """Random parameters, each made on its own shard when a mesh is given."""
    out = param_shardings(config, mesh, rules) if mesh is not None and rules is not None else None
    return init_onto(config, key, out, param_dtype)


def init_onto(config: ModelConfig, key: jax.Array, to: Any, param_dtype: Any = jnp.float32) -> Any:
    """Random parameters laid out by `to`, a pytree of shardings or None."""
    # The CPU compiler takes 5 times as long over random normals when it optimizes, for a program that runs once.
    # (Inside another jit options cannot be given.)
    plain = jax.default_backend() != "cpu" or isinstance(key, jax.core.Tracer)
    options = None if plain else {"xla_backend_optimization_level": 0}
    init = jax.jit(lambda k: nn.unbox(_init(config, k, param_dtype)), out_shardings=to, compiler_options=options)
    return init(key)


def param_count(config: ModelConfig) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(config)))


def used_params(config: ModelConfig) -> int:
    """Those that one token meets: of a mixture the experts that it takes."""
    experts = 3 * config.n_layers * config.d_model * config.d_ff
    return param_count(config) - experts * (config.n_experts - config.experts_per_token)


def attended_positions(config: ModelConfig, context: float) -> float:
    """Of all layers together, for a token behind so many positions: at most the window of each."""
    return sum(context if kind.window is None else min(context, kind.window) for kind in config.layers)
