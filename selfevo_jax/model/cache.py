"""The KV cache: an explicit pytree, passed in and returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.int8 import is_int8, quantize
from selfevo_jax.sharding import ShardingRules, on_each_device

CachePart = tuple[jax.Array, ...]
"""Keys and values of some positions of a layer, and their scales where they are int8."""
CacheLayer = tuple[CachePart, ...]
"""One layer of the cache: its parts in the order of their positions."""


@flax.struct.dataclass
class KVCache:
    """Keys and values, `[B, K, C, head_dim]` a layer: positions inside heads, as attention reads them; or, for a scan
    over N layers, `[B, N, K, C, head_dim]` of them all.

    A cache index is a position: a row's token at position p is written at index p, and a query at position q reads
    the indices up to q. Rolling a row back or forking it is just going on from a smaller position.

    The positions of a layer may lie in several parts, each an array of its own, so that a program can work on the first
    ones where they are: to cut them out of one array and put them back would copy them.
    """

    k: tuple[jax.Array, ...]
    """The parts of the first layer, then those of the second, ..."""
    v: tuple[jax.Array, ...]
    k_scale: tuple[jax.Array, ...] = ()
    """Of int8 keys: float32 `[B, K, C]` a part, one scale for each position and head; else empty."""
    v_scale: tuple[jax.Array, ...] = ()
    n_parts: int = flax.struct.field(pytree_node=False, default=1)
    """Of each layer."""

    @property
    def stacked(self) -> bool:
        """Whether the arrays have the layers as an axis."""
        return self.k[0].ndim == 5

    @property
    def length(self) -> int:
        """C, the positions a row can hold."""
        return sum(part.shape[-2] for part in self.k[: self.n_parts])

    @property
    def starts(self) -> tuple[int, ...]:
        """The first position of each part."""
        return tuple(accumulate((part.shape[-2] for part in self.k[: self.n_parts - 1]), initial=0))

    @property
    def layers(self) -> tuple[CacheLayer, ...]:
        parts = tuple(zip(*(x for x in (self.k, self.v, self.k_scale, self.v_scale) if x), strict=True))
        return tuple(parts[at : at + self.n_parts] for at in range(0, len(parts), self.n_parts))

    @classmethod
    def of_layers(cls, layers: Sequence[CacheLayer]) -> KVCache:
        arrays: list[Any] = list(zip(*(part for layer in layers for part in layer), strict=True))
        return replace(cls(*arrays), n_parts=len(layers[0]))

    def first(self, positions: int) -> KVCache:
        """The parts that hold the first `positions`."""
        n_parts = sum(start < positions for start in self.starts)
        return KVCache.of_layers([layer[:n_parts] for layer in self.layers])

    def with_first(self, new: KVCache) -> KVCache:
        """This cache with the parts of `new` in place of its first ones."""
        pairs = zip(new.layers, self.layers, strict=True)
        return KVCache.of_layers([ours + theirs[new.n_parts :] for ours, theirs in pairs])


def init_cache(
    config: ModelConfig,
    batch: int,
    length: int | Sequence[int],
    dtype: Any = jnp.float32,
    *,
    stacked: bool = False,
    width: int | None = None,
) -> KVCache:
    """An empty cache for `batch` rows of `length` positions, or of parts of these lengths; int8 brings its scales
    along. `stacked` for a scan over the layers; `width` numbers for each head and position where they are more than
    head_dim."""
    layers, width = (config.n_layers,) if stacked else (), width or config.head_dim

    def part(positions: int) -> CachePart:
        shape = (batch, *layers, config.n_kv_heads, positions, width)
        shapes = [(shape, dtype)] * 2 + [(shape[:-1], jnp.float32)] * (2 if is_int8(dtype) else 0)
        return tuple(jnp.zeros(s, d) for s, d in shapes)

    lengths = [length] if isinstance(length, int) else length
    return KVCache.of_layers([tuple(map(part, lengths)) for _ in range(1 if stacked else config.n_layers)])


@dataclass(frozen=True)
class HeadMesh:
    """How the heads of a cache lie over devices, so that each moves rows of those that it has: where rows are named by
    ids XLA would send them around."""

    mesh: Mesh
    axes: tuple[str, ...]
    """Mesh axes that the heads lie over."""
    outer: tuple[str, ...] = ()
    """Axes of the mesh that the program is mapped over already."""

    @classmethod
    def of(cls, layout: KVCache, stacked: bool, outer: tuple[str, ...] = ()) -> HeadMesh | None:
        """Of a cache, stacked or not, laid out by these shardings; None where no device has heads that another one has
        not."""
        found: Any = layout.k[0]
        heads = 2 if stacked else 1
        axes = found.spec[heads] if len(found.spec) > heads else None
        axes = () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
        divided = any(found.mesh.shape[axis] > 1 for axis in axes)
        return cls(found.mesh, axes, outer) if divided else None

    def each(self, function: Callable[..., Any], given: Sequence[int | None], made: int) -> Callable[..., Any]:
        """The function for the heads of each device: the dimension of heads in each argument and in the result."""

        def spec(dimension: int | None) -> PartitionSpec:
            return PartitionSpec() if dimension is None else PartitionSpec(*[None] * dimension, self.axes)

        return on_each_device(function, self.mesh, tuple(map(spec, given)), spec(made), outer=self.outer)


def write(
    layer: CacheLayer,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array,
    slots: jax.Array | None = None,
    on: HeadMesh | None = None,
    number: jax.Array | None = None,
) -> CacheLayer:
    """The layer with keys and values `[B, L, K, head_dim]` at positions `[B, L]` of its rows, or of rows `slots [B]`;
    of a stacked cache the layer `number`.

    A position or a slot out of range is written nowhere. Each position is quantized by itself, so what a row holds does
    not depend on how its tokens were batched. With all rows they are a batch axis of the write: on a mesh each device
    writes its own, and none is gathered. Heads are indices, so that the unit written is one head's position: with all
    heads of a position as the unit, XLA on TPU wants heads beside head_dim in memory, and copies the whole cache into
    that layout and back.
    """
    new: CachePart = (k, v)
    if is_int8(layer[0][0].dtype):
        (k, k_scale), (v, v_scale) = quantize(k, (3,)), quantize(v, (3,))
        new = (k, v, k_scale, v_scale)
    of = () if number is None else (number,)

    def put(row: jax.Array, at: jax.Array, x: jax.Array) -> jax.Array:
        return row.at[*of, jnp.arange(row.shape[len(of)]), at[:, None]].set(x.astype(row.dtype), mode="drop")

    def put_some(old: jax.Array, at: jax.Array, x: jax.Array, slots: jax.Array, *of: jax.Array) -> jax.Array:
        heads = jnp.arange(old.shape[1 + len(of)])
        return old.at[slots[:, None, None], *of, heads, at[:, :, None]].set(x.astype(old.dtype), mode="drop")

    def put_all(old: jax.Array, at: jax.Array, x: jax.Array) -> jax.Array:
        if slots is None:
            return jax.vmap(put)(old, at, x)
        heads = 1 + len(of)
        here = put_some if on is None else on.each(put_some, (heads, None, 2, None, *[None] * len(of)), heads)
        return here(old, at, x, slots, *of)

    written, start = [], 0
    for part in layer:
        size = part[0].shape[-2]
        # an index below 0 would count from the end
        at = positions if start == 0 else jnp.where(positions < start, size, positions - start)
        written.append(tuple(put_all(old, at, x) for old, x in zip(part, new, strict=True)))
        start += size
    return tuple(written)


def take_rows(
    part: CachePart,
    slots: jax.Array | None,
    positions: int,
    on: HeadMesh | None = None,
    number: jax.Array | None = None,
) -> CachePart:
    """The first `positions` at most of a part, of all its rows or of the rows `slots [B]` (clipped into range); of a
    stacked cache those of the layer `number`.

    Head by head, as XLA on TPU moves whole rows by way of a transposed cache.
    """
    of = () if number is None else (number,)

    def take(leaf: jax.Array) -> jax.Array:
        end = min(positions, leaf.shape[2 + len(of)])
        if slots is None:
            own = leaf if number is None else jax.lax.dynamic_index_in_dim(leaf, number, 1, keepdims=False)
            return own[:, :, :end]

        def some(leaf: jax.Array, slots: jax.Array, *of: jax.Array) -> jax.Array:
            return leaf.at[slots[:, None], *of, jnp.arange(leaf.shape[1 + len(of)]), :end].get(mode="clip")

        heads = 1 + len(of)
        here = some if on is None else on.each(some, (heads, None, *[None] * len(of)), 1)
        return here(leaf, slots, *of)

    return tuple(map(take, part))


def copy_rows(cache: KVCache, sources: jax.Array, targets: jax.Array, on: HeadMesh | None = None) -> KVCache:
    """The cache with its rows `sources [R]` in those of `targets [R]` too; a target out of range is left out."""
    heads = 2 if cache.stacked else 1

    def copy(leaf: jax.Array, sources: jax.Array, targets: jax.Array) -> jax.Array:
        flat = leaf.reshape(leaf.shape[0], -1, *leaf.shape[heads + 1 :])
        (rows,) = take_rows((flat,), sources, flat.shape[2])
        put = flat.at[targets[:, None], jnp.arange(flat.shape[1])].set(rows, mode="drop")  # head by head too
        return put.reshape(leaf.shape)

    here = copy if on is None else on.each(copy, (heads, None, None), heads)
    return jax.tree.map(lambda leaf: here(leaf, sources, targets), cache)


CACHE_AXES = ("batch", "kv_heads", None, None)
"""Logical axes of each array of the cache (of scales the first three)."""


def cache_shardings(cache: KVCache, mesh: Mesh, rules: ShardingRules) -> KVCache:
    """The layout of a cache (or of its shapes): a KVCache of NamedSharding."""
    axes = (CACHE_AXES[0], None, *CACHE_AXES[1:]) if cache.stacked else CACHE_AXES
    return jax.tree.map(lambda x: NamedSharding(mesh, rules.spec(axes[: x.ndim], x.shape, mesh)), cache)
