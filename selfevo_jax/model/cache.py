"""The KV cache: an explicit pytree, passed in and returned."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from selfevo_jax.model.config import ModelConfig


@flax.struct.dataclass
class KVCache:
    """Keys and values, one array a layer, each `[B, K, C, head_dim]`: positions inside heads, as attention reads them.

    A cache index is a position: a row's token at position p is written at index p, and a query at position q reads
    the indices up to q. Rolling a row back or forking it is just going on from a smaller position.
    """

    k: tuple[jax.Array, ...]
    v: tuple[jax.Array, ...]

    @property
    def length(self) -> int:
        """C, the positions a row can hold."""
        return self.k[0].shape[2]


def init_cache(config: ModelConfig, batch: int, length: int, dtype: Any = jnp.float32) -> KVCache:
    """An empty cache for `batch` rows of `length` positions."""
    shape = (batch, config.n_kv_heads, length, config.head_dim)
    return KVCache(
        k=tuple(jnp.zeros(shape, dtype) for _ in range(config.n_layers)),
        v=tuple(jnp.zeros(shape, dtype) for _ in range(config.n_layers)),
    )


def write(cached: jax.Array, new: jax.Array, positions: jax.Array) -> jax.Array:
    """One layer's keys or values `[B, K, C, head_dim]` with `new [B, L, K, head_dim]` at `positions [B, L]`.

    A padding token has position C: out of range, so it is written nowhere. The unit that is scattered is one head's
    row. With a position of all heads as the unit, XLA on TPU wants heads beside head_dim in memory, and copies the
    whole cache into that layout and back: at each dispatch, and before a kernel at each step.
    """
    rows, heads = jnp.arange(new.shape[0])[:, None, None], jnp.arange(new.shape[2])
    return cached.at[rows, heads, positions[:, :, None]].set(new.astype(cached.dtype), mode="drop")


CACHE_AXES = ("batch", "kv_heads", None, None)
"""Logical axes of each array of the cache."""
