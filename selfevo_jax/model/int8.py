"""Symmetric int8 quantization of matrices and of cached keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def is_int8(dtype: Any) -> bool:
    return jnp.dtype(dtype) == jnp.int8


def quantize(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """int8 values of x's shape and their float32 scales, `max|x| / 127` over `axes` (which the scales lack).

    `values * scale` differs from x by half a scale at most. Zeros have scale 0; a NaN or an infinity makes its scale
    NaN or infinite, so that it shows in whatever is computed from it.
    """
    wide = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(wide), axis=axes, keepdims=True) / 127
    steps = jnp.round(wide / jnp.where(scale > 0, scale, 1))
    return jnp.clip(steps, -127, 127).astype(jnp.int8), jnp.squeeze(scale, axes)


def quantize_params(params: Any, declared: Any) -> Any:
    """Float parameters as the tree that the decoder declares for `param_dtype` int8 (`abstract_params`).

    A kernel has one scale for each output, the embedding one for each row (its lookup and the tied head share them);
    norms and biases become float32.
    """

    def convert(node: Any, wanted: Any, beside: Any = ()) -> Any:
        out = {}
        for name, leaf in node.items():
            if isinstance(leaf, Mapping):
                out[name] = convert(leaf, wanted[name], node)
            elif name == "kernel":
                inputs = len(leaf.shape) - len(wanted["scale"].shape)
                experts = int("router" in beside)  # one matrix an expert, with scales of its own
                out["kernel"], out["scale"] = quantize(leaf, tuple(range(experts, experts + inputs)))
            elif name == "embedding":
                out["embedding"], out["embedding_scale"] = quantize(leaf, (1,))
            else:
                out[name] = jnp.asarray(leaf, wanted[name].dtype)
        return out

    return convert(params, declared)
