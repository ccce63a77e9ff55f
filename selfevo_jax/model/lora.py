"""Low-rank adapters (LoRA, arXiv 2106.09685): the base stays as it is, and a product of two thin matrices is learnt."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.learning import MATRICES, LoraConfig
from selfevo_jax.model.params import abstract_params, layer_names, logical_axes


def _adapted(tree: Any, lora: LoraConfig, make: Callable[[slice, slice, Any], Any]) -> Any:
    """`make(axes in front of the inputs, axes of the inputs, kernel's leaf)` for each adapted matrix of each layer of a
    tree in the parameters' form. Matrices of experts have the experts' axis in front, and adapters for each."""

    def of(part: Any) -> dict[str, Any]:
        first = int("router" in part)
        return {
            name: make(slice(first), slice(first, first + MATRICES[name]), leaf["kernel"])
            for name, leaf in part.items()
            if name in lora.targets
        }

    return {
        name: {part: found for part in ("attention", "mlp") if (found := of(tree[name][part]))}
        for name in layer_names(tree)
    }


def adapter_axes(config: ModelConfig, lora: LoraConfig) -> Any:
    """Logical axes of the adapters; the rank is split over no device."""
    return _adapted(
        logical_axes(config),
        lora,
        lambda first, inputs, axes: {
            "a": (*axes[first], *axes[inputs], None),
            "b": (*axes[first], None, *axes[inputs.stop :]),
        },
    )


def init_adapters(config: ModelConfig, lora: LoraConfig, key: jax.Array) -> Any:
    """fp32 adapters whose products are zero: `a [inputs, R]` is drawn, `b [R, outputs]` is zero; of each expert."""
    keys = iter(jax.random.split(key, config.n_layers * len(MATRICES)))

    def make(first: slice, inputs: slice, kernel: Any) -> dict[str, jax.Array]:
        each, ins, outs = kernel.shape[first], kernel.shape[inputs], kernel.shape[inputs.stop :]
        drawn = jax.random.normal(next(keys), (*each, *ins, lora.rank), jnp.float32)
        return {"a": drawn / math.sqrt(math.prod(ins)), "b": jnp.zeros((*each, lora.rank, *outs), jnp.float32)}

    return _adapted(abstract_params(config), lora, make)


def abstract_adapters(config: ModelConfig, lora: LoraConfig) -> Any:
    """Shapes and dtypes of the adapters."""
    return jax.eval_shape(lambda: init_adapters(config, lora, jax.random.key(0)))


def scaled_adapters(adapters: Any, lora: LoraConfig) -> Any:
    """The adapters as `Linear` takes them, the scale multiplied in."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * lora.scale if path[-1].key == "a" else leaf, adapters
    )


def merge_adapters(params: Any, adapters: Any, lora: LoraConfig) -> Any:
    """The parameters with the products added to their kernels; both with layers apart, in fp32."""
    out = dict(params)
    for name, layer in adapters.items():
        out[name] = dict(params[name])
        for part, matrices in layer.items():
            out[name][part] = dict(params[name][part])
            for matrix, ab in matrices.items():
                old = params[name][part][matrix]
                multiply = jnp.matmul if "router" in params[name][part] else functools.partial(jnp.tensordot, axes=1)
                product = multiply(ab["a"], ab["b"]) * lora.scale
                out[name][part][matrix] = {**old, "kernel": old["kernel"] + product}
    return out
