"""The KV cache: an explicit pytree, passed in and returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.quantize import is_int8, quantize
from selfevo_jax.sharding import ShardingRules

CacheLayer = tuple[jax.Array, ...]
"""One layer of the cache: keys and values, and their scales where they are int8."""


@flax.struct.dataclass
class KVCache:
    """Keys and values, one array a layer, each `[B, K, C, head_dim]`: positions inside heads, as attention reads them.

    A cache index is a position: a row's token at position p is written at index p, and a query at position q reads
    the indices up to q. Rolling a row back or forking it is just going on from a smaller position.
    """

    k: tuple[jax.Array, ...]
    v: tuple[jax.Array, ...]
    k_scale: tuple[jax.Array, ...] = ()
    """Of int8 keys: float32 `[B, K, C]` a layer, one scale for each position and head; else empty."""
    v_scale: tuple[jax.Array, ...] = ()

    @property
    def length(self) -> int:
        """C, the positions a row can hold."""
        return self.k[0].shape[2]

    def layer(self, index: int) -> CacheLayer:
        return tuple(part[index] for part in (self.k, self.v, self.k_scale, self.v_scale) if part)

    @classmethod
    def of_layers(cls, layers: Sequence[CacheLayer]) -> KVCache:
        return cls(*zip(*layers, strict=True))


def init_cache(config: ModelConfig, batch: int, length: int, dtype: Any = jnp.float32) -> KVCache:
    """An empty cache for `batch` rows of `length` positions; int8 brings its scales along."""
    shape = (batch, config.n_kv_heads, length, config.head_dim)
    shapes = [(shape, dtype)] * 2 + [(shape[:3], jnp.float32)] * (2 if is_int8(dtype) else 0)
    return KVCache.of_layers([tuple(jnp.zeros(s, d) for s, d in shapes) for _ in range(config.n_layers)])


def write(layer: CacheLayer, k: jax.Array, v: jax.Array, positions: jax.Array) -> CacheLayer:
    """The layer with keys and values `[B, L, K, head_dim]` at positions `[B, L]`; one out of range is written nowhere.

    Each position is quantized by itself, so what a row holds does not depend on how its tokens were batched. Rows are a
    batch axis of the write: on a mesh each device writes its own, and none is gathered. Heads are indices, so that the
    unit written is one head's position: with all heads of a position as the unit, XLA on TPU wants heads beside
    head_dim in memory, and copies the whole cache into that layout and back.
    """
    heads = jnp.arange(k.shape[2])
    new: CacheLayer = (k, v)
    if is_int8(layer[0].dtype):
        (k, k_scale), (v, v_scale) = quantize(k, (3,)), quantize(v, (3,))
        new = (k, v, k_scale, v_scale)

    def put(row: jax.Array, at: jax.Array, x: jax.Array) -> jax.Array:
        return row.at[heads, at[:, None]].set(x.astype(row.dtype), mode="drop")

    return tuple(jax.vmap(put)(old, positions, x) for old, x in zip(layer, new, strict=True))


CACHE_AXES = ("batch", "kv_heads", None, None)
"""Logical axes of each array of the cache (of scales the first three)."""


def cache_shardings(cache: KVCache, mesh: Mesh, rules: ShardingRules) -> KVCache:
    """The layout of a cache (or of its shapes): a KVCache of NamedSharding."""
    return jax.tree.map(lambda x: NamedSharding(mesh, rules.spec(CACHE_AXES[: x.ndim], x.shape, mesh)), cache)
