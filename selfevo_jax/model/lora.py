"""Low-rank adapters (LoRA, arXiv 2106.09685): the base stays as it is, and a product of two thin matrices is learnt."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.learning import MATRICES, LoraConfig
from selfevo_jax.model.params import abstract_params, layer_names, logical_axes


def _adapted(tree: Any, lora: LoraConfig, make: Callable[[str, Any], Any]) -> Any:
    """`make(name, kernel's leaf)` for each adapted matrix of each layer of a tree in the parameters' form."""
    return {
        name: {
            part: found
            for part in ("attention", "mlp")
            if (found := {m: make(m, leaf["kernel"]) for m, leaf in tree[name][part].items() if m in lora.targets})
        }
        for name in layer_names(tree)
    }


def adapter_axes(config: ModelConfig, lora: LoraConfig) -> Any:
    """Logical axes of the adapters; the rank is split over no device."""
    return _adapted(
        logical_axes(config),
        lora,
        lambda name, axes: {"a": (*axes[: MATRICES[name]], None), "b": (None, *axes[MATRICES[name] :])},
    )


def init_adapters(config: ModelConfig, lora: LoraConfig, key: jax.Array) -> Any:
    """fp32 adapters whose products are zero: `a [inputs, R]` is drawn, `b [R, outputs]` is zero."""
    keys = iter(jax.random.split(key, config.n_layers * len(MATRICES)))

    def make(name: str, kernel: Any) -> dict[str, jax.Array]:
        inputs, outputs = kernel.shape[: MATRICES[name]], kernel.shape[MATRICES[name] :]
        drawn = jax.random.normal(next(keys), (*inputs, lora.rank), jnp.float32)
        return {"a": drawn / math.sqrt(math.prod(inputs)), "b": jnp.zeros((lora.rank, *outputs), jnp.float32)}

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
                product = jnp.tensordot(ab["a"], ab["b"], axes=1) * lora.scale
                out[name][part][matrix] = {**old, "kernel": old["kernel"] + product}
    return out
