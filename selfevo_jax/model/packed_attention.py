"""Attention of packed rows by cuDNN that is given where their sequences lie: no mask, and no work between sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SEQUENCES = 16
"""The most of a row. For each of them, used or not, cuDNN's backward pass takes up to as much workspace as the queries
take in fp32."""
_COUNTED = 2**31  # cuDNN's offsets of numbers are int32

Plain = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class Packing(NamedTuple):
    """Where the sequences of rows `[B, L]` lie."""

    offsets: jax.Array
    """int32 `[B, M + 1]`: the positions where sequences begin, then -1."""
    lengths: jax.Array
    """int32 `[B, M]`: their tokens, then -1."""
    fits: jax.Array
    """bool `[B]`: whether the row has no more than M."""

    @classmethod
    def of(cls, segment_ids: jax.Array, most: int = SEQUENCES) -> Packing:
        """Of integers `[B, L]`, each segment's tokens side by side, with M = `most`.

        Padding is a sequence like others, as in `causal_mask`: places that belong to none cuDNN may leave unwritten, in
        the output and in the gradients.
        """
        length = segment_ids.shape[1]
        begins = jnp.pad(segment_ids[:, 1:] != segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=True)
        places = jnp.where(begins, jnp.arange(length, dtype=jnp.int32), length)
        starts = jnp.pad(jnp.sort(places, axis=1), ((0, 0), (0, most + 1)), constant_values=length)[:, : most + 1]
        real = starts < length
        lengths = jnp.where(real[:, :-1], jnp.diff(starts, axis=1), -1)
        return cls(jnp.where(real, starts, -1), lengths, ~real[:, -1])


def packed_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    packing: Packing,
    by_mask: Plain,
    by_offsets: Callable[[jax.Array, jax.Array, jax.Array, Packing], jax.Array],
) -> jax.Array:
    """`[B, L, H, head_dim]` of q like it and k, v `[B, L, K, head_dim]`.

    `by_offsets` is given as many heads of k and v as of q. `by_mask` takes the batch in which a row has more sequences
    than the packing holds, and one too large for int32.
    """
    if q.size >= _COUNTED:
        return by_mask(q, k, v)

    def of_offsets(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        # jax before 0.11.1 counts the places of keys by the heads of the queries: with fewer heads it reads other
        # tokens, without an error (jax-ml/jax#39521)
        group = q.shape[2] // k.shape[2]
        return by_offsets(q, jnp.repeat(k, group, axis=2), jnp.repeat(v, group, axis=2), packing)

    out: jax.Array = jax.lax.cond(jnp.all(packing.fits), of_offsets, by_mask, q, k, v)
    return out


def cudnn_packed(
    q: jax.Array, k: jax.Array, v: jax.Array, packing: Packing, *, scale: float, window: int | None
) -> jax.Array:
    """Causal attention within the packing's sequences, to the last `window` tokens of each (None: all)."""
    # private: `jax.nn.dot_product_attention` takes no offsets
    from jax._src.cudnn.fused_attention_stablehlo import MaskType, dot_product_attention

    out: jax.Array = dot_product_attention(
        q,
        k,
        v,
        q_seqlen=packing.lengths,
        kv_seqlen=packing.lengths,
        q_offsets=packing.offsets,
        kv_offsets=packing.offsets,
        scale=scale,
        mask_type=MaskType.PADDING_CAUSAL,
        sliding_window_length=window,
    )
    return out


def takes_packed_rows(device: Any) -> bool:
    """Whether a GPU is of compute capability 9 (Hopper) or 10 (Blackwell): older ones cannot, and wrong gradients were
    reported for 12 (NVIDIA/TransformerEngine#3333)."""
    return str(getattr(device, "compute_capability", "")).split(".")[0] in {"9", "10"}
