"""Attention to the KV cache on TPU: jax's own Pallas kernels, on the cache as it lies in memory."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from selfevo_jax.model.attention import Scoring
from selfevo_jax.model.cache import CACHE_AXES
from selfevo_jax.model.config import ModelConfig
from selfevo_jax.sharding import ShardingRules, on_each_device

LANES = 128
"""A cache that the kernels read holds a multiple of so many positions."""
_SUBLANES = 8
_DECODE_BLOCK, _EXTEND_BLOCK, _QUERY_BLOCK = 256, 512, 512  # positions, positions, rows; not tuned on a chip
_FEW_QUERIES = 16
"""Of each slot, whose scores against a whole cache still take less memory than the cache."""


@dataclass(frozen=True)
class TpuAttention:
    """Attention to the cache by Pallas kernels; under `shard_map` where there is a mesh.

    Decode (one query a slot) is `paged_attention`: each pair (slot, kv head) is a sequence of a cache with one head, so
    the dense `[B, K, C, head_dim]` reshapes to its pages without a copy (of a stacked cache those of one layer are
    named), and a step reads the blocks up to a slot's own length instead of the whole window. That kernel has no causal
    mask among several queries, so extend is the splash kernel, its mask computed from each query's position: no scores
    in memory, but the whole window is read. Flash attention has no offset of its own for each slot.
    """

    scoring: Scoring
    mesh: Mesh | None = None
    slot_axes: tuple[str, ...] = ()
    head_axes: tuple[str, ...] = ()
    interpret: bool = False
    """Interprets the kernels, on any platform and slowly: for tests."""
    window: int | None = None
    """The smallest of all layers."""
    outer: tuple[str, ...] = ()
    """Axes of the mesh that the program is mapped over already."""

    @classmethod
    def choose(
        cls, config: ModelConfig, mesh: Mesh | None = None, rules: ShardingRules | None = None
    ) -> TpuAttention | None:
        """The kernels on the mesh's devices (or the default platform), or None where only the plain path serves.

        None off TPU, and where the kv heads do not divide over their mesh axes: they are replicated there, while the
        query heads may not be.
        """
        platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
        if platform != "tpu":
            return None
        scoring, window = Scoring.of(config), config.sliding_window
        if mesh is None or rules is None:
            return cls(scoring, window=window)
        slot_axes, head_axes = (rules.mesh_axes(name) for name in CACHE_AXES[:2])
        divided = config.n_kv_heads % rules.ways(CACHE_AXES[1], mesh) == 0
        return cls(scoring, mesh, slot_axes, head_axes, window=window) if divided else None

    def inside(self, axes: tuple[str, ...]) -> TpuAttention:
        """The same for a program that is itself mapped over these axes, those of the slots."""
        return replace(self, slot_axes=(), outer=axes)

    def serves(
        self, q: jax.Array | jax.ShapeDtypeStruct, k: jax.Array | jax.ShapeDtypeStruct, among: bool = False
    ) -> bool:
        """Whether a kernel takes q `[B, L, H, head_dim]` with keys `[B, K, C, head_dim]`; else the plain path does.

        bfloat16 alone: `paged_attention` rounds keys to it. C in whole blocks. One query: head_dim a multiple of 128,
        which that kernel does not compile without, and no layer with a window below C, which it has not. Several: a
        multiple of 8 of them, of any head_dim; not a few of each slot where the keys lie `among` those of other layers
        (they are all rows of a stacked cache): that kernel would want a copy of them, and the plain path does not.
        """
        length, head_dim = q.shape[1], q.shape[3]
        if among and 1 < length <= _FEW_QUERIES:
            return False
        sees_all = self.window is None or self.window >= k.shape[2]
        whole = (head_dim % LANES == 0 and sees_all) if length == 1 else length % _SUBLANES == 0
        return whole and k.shape[2] % LANES == 0 and q.dtype == k.dtype == jnp.bfloat16

    def attend(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        positions: jax.Array,
        window: int | None = None,
        number: jax.Array | None = None,
    ) -> jax.Array:
        """`[B, L, H, head_dim]` as `attention.attend` gives them, of queries at `positions [B, L]` to the cache.

        A position of C or more is padding, and its output means nothing. A query sees the last `window` positions. One
        query a slot may read the layer `number` of stacked k and v `[B, N, K, C, head_dim]`.
        """
        settings: Any = {"scoring": self.scoring, "interpret": self.interpret}
        settings |= {} if q.shape[1] == 1 else {"window": window}
        local: Any = functools.partial(decode if q.shape[1] == 1 else extend, **settings)
        of = () if number is None else (number,)
        if self.mesh is None:
            return local(q, k, v, positions, *of)
        queries = PartitionSpec(self.slot_axes, None, self.head_axes)
        cached = PartitionSpec(self.slot_axes, *[None] * len(of), self.head_axes)
        given = (queries, cached, cached, PartitionSpec(self.slot_axes), *[PartitionSpec()] * len(of))
        return on_each_device(local, self.mesh, given, queries, outer=self.outer)(q, k, v, positions, *of)


def decode(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array,
    number: jax.Array | None = None,
    *,
    scoring: Scoring,
    interpret: bool = False,
) -> jax.Array:
    """One query a slot: q `[B, 1, H, head_dim]`, k and v `[B, K, C, head_dim]`, positions `[B, 1]`; or k and v
    `[B, N, K, C, head_dim]` of all layers, of which it reads the layer `number`."""
    # imported here: Pallas takes 0.3 s, and only a TPU needs it
    from jax.experimental.pallas import tpu as pltpu
    from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention

    batch, *layers, kv_heads, capacity, head_dim = k.shape
    block = _block(capacity, _DECODE_BLOCK)
    sequences, blocks = batch * kv_heads, capacity // block
    pages = jnp.arange(k.size // (block * head_dim), dtype=jnp.int32)
    pages = pages.reshape(batch, *layers, kv_heads, blocks)
    if number is not None:
        pages = jax.lax.dynamic_index_in_dim(pages, number, 1, keepdims=False)
    # a slot at rest (position C) has length 0, of which the kernel reads nothing
    lengths = jnp.where(positions[:, 0] < capacity, positions[:, 0] + 1, 0)
    with pltpu.force_tpu_interpret_mode() if interpret else contextlib.nullcontext():
        out = paged_attention(
            (q.astype(jnp.float32) * scoring.scale).reshape(sequences, -1, head_dim),
            k.reshape(1, -1, block, head_dim),
            v.reshape(1, -1, block, head_dim),
            jnp.repeat(lengths.astype(jnp.int32), kv_heads),
            pages.reshape(sequences, blocks),
            pages_per_compute_block=1,
            attn_logits_soft_cap=scoring.softcap,
        )
    return out.reshape(q.shape).astype(q.dtype)


def extend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: jax.Array,
    *,
    scoring: Scoring,
    window: int | None = None,
    interpret: bool = False,
) -> jax.Array:
    """Several queries a slot: q `[B, L, H, head_dim]`, k and v `[B, K, C, head_dim]`, positions `[B, L]`.

    The query heads of one kv head are rows of one product: it reads keys and values once for all of them.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import MaskInfo

    batch, length, heads, head_dim = q.shape
    kv_heads, capacity = k.shape[1:3]
    groups = heads // kv_heads
    rows = groups * length
    block_kv = _block(capacity, _EXTEND_BLOCK)
    sizes = splash.BlockSizes(
        block_q=max(n for n in range(_SUBLANES, min(rows, _QUERY_BLOCK) + 1, _SUBLANES) if rows % n == 0),
        block_kv=block_kv,
        block_kv_compute=block_kv,
    )

    def of_slot(q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array) -> Any:
        mask: Any = MaskInfo(None, None, None, None, q_sequence=positions)  # type: ignore[arg-type]
        return splash.SplashAttentionKernel(
            mask,
            None,
            None,
            is_mqa=False,
            block_sizes=sizes,
            save_residuals=False,
            mask_value=splash.DEFAULT_MASK_VALUE,
            attn_logits_soft_cap=scoring.softcap,
            residual_checkpoint_name=None,
            mask_function=functools.partial(_sees, window=window),
            interpret=interpret,
        )(q, k, v)

    scaled = (q.astype(jnp.float32) * scoring.scale).astype(q.dtype)
    grouped = scaled.reshape(batch, length, kv_heads, groups, head_dim).transpose(0, 2, 3, 1, 4)
    out = jax.vmap(of_slot)(grouped.reshape(batch, kv_heads, rows, head_dim), k, v, jnp.tile(positions, (1, groups)))
    out = out.reshape(batch, kv_heads, groups, length, head_dim)
    return out.transpose(0, 3, 1, 2, 4).reshape(q.shape)


def _sees(query: jax.Array, key: jax.Array, window: int | None) -> jax.Array:
    return query >= key if window is None else (query >= key) & (query - key < window)


def _block(capacity: int, most: int) -> int:
    """The largest of `most` and its halves that divides the positions."""
    while capacity % most:
        most //= 2
    return most
