"""Parameters laid out for the products in C (`native`): matrices in panels, as `Linear` and the embedding take them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.params import abstract_params
from selfevo_jax.native.calls import panels


def panelled_params(config: ModelConfig, params: Any) -> Any:
    """Float32 parameters, their layers apart, with `panels` in place of each `kernel`, and `embedding_panels` (of its
    transpose) in place of an `embedding` that is the unembedding too. The matrices of experts keep their layout.

    Outside a compiled function one matrix is converted at a time, so that no more than it is held besides.
    """
    # what is declared for int8 has a scale for each output, so that it tells inputs from outputs
    out = _convert(params, abstract_params(config, jnp.int8))
    if config.tie_embeddings:
        out["embedding_panels"] = panels(out.pop("embedding").T)
    return out


def is_panelled(params: Any) -> bool:
    """Whether any matrix of these parameters lies in panels."""
    return any(
        name in ("panels", "embedding_panels") or (isinstance(leaf, Mapping) and is_panelled(leaf))
        for name, leaf in params.items()
    )


def _convert(node: Any, scaled: Any) -> Any:
    out = {}
    for name, leaf in node.items():
        if isinstance(leaf, Mapping):
            out[name] = jax.tree.map(_wide, leaf) if "router" in leaf else _convert(leaf, scaled[name])
        elif name == "kernel":
            outputs = math.prod(scaled["scale"].shape)
            out["panels"] = panels(_wide(leaf).reshape(-1, outputs))
        else:
            out[name] = _wide(leaf)
    return out


def _wide(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, jnp.float32)
