"""Rotary positions and attention as plain functions: the reference path that every platform can run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from selfevo_jax.model.config import LayerKind, ModelConfig


def rope_frequencies(head_dim: int, kind: LayerKind) -> np.ndarray:
    """Angular frequencies `[head_dim / 2]` in radians a position, scaled as layers of this kind are.

    Sources: RoFormer (arXiv 2104.09864); the llama3 rule as in Meta's Llama 3.1 reference code.
    """
    half = head_dim // 2
    frequencies = kind.rope_theta ** -(np.arange(half, dtype=np.float64) / half)
    scaling = kind.rope_scaling
    if scaling is None:
        return frequencies.astype(np.float32)
    if scaling.kind == "linear":
        return (frequencies / scaling.factor).astype(np.float32)
    wavelength = 2 * math.pi / frequencies
    turns = scaling.original_max_position / wavelength
    smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    smooth = np.clip(smooth, 0.0, 1.0)
    return ((1 - smooth) * frequencies / scaling.factor + smooth * frequencies).astype(np.float32)


def rotary(positions: jax.Array, frequencies: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine `[B, L, 1, head_dim / 2]` for integer positions `[B, L]`."""
    angles = positions.astype(jnp.float32)[:, :, None, None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def apply_rotary(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates `[B, L, heads, head_dim]` by halves (the Hugging Face order of dimensions)."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def causal_mask(segment_ids: jax.Array | None, length: int, window: int | None) -> jax.Array:
    """Boolean `[B or 1, L, L]`: query i sees key j <= i of its own segment, within the window. Segment 0 is padding."""
    index = jnp.arange(length)
    mask = index[None, :, None] >= index[None, None, :]
    if window is not None:
        mask &= index[None, :, None] - index[None, None, :] < window
    if segment_ids is not None:
        mask &= segment_ids[:, :, None] == segment_ids[:, None, :]
    return mask


def cache_mask(positions: jax.Array, cache_length: int, window: int | None) -> jax.Array:
    """Boolean `[B, L, C]`: a query at position p sees the cache indices up to p, within the window."""
    index = jnp.arange(cache_length)
    mask = index[None, None, :] <= positions[:, :, None]
    if window is not None:
        mask &= index[None, None, :] > positions[:, :, None] - window
    return mask


@dataclass(frozen=True)
class Scoring:
    """How scores are made of the products of queries and keys."""

    scale: float
    softcap: float | None = None
    """Bounds scores s to c tanh(s / c); None leaves them."""

    @classmethod
    def of(cls, config: ModelConfig) -> Scoring:
        return cls((config.query_scalar or config.head_dim) ** -0.5, config.attention_softcap)

    def bounded(self, scores: jax.Array) -> jax.Array:
        """Scores with the scale in them."""
        return soft_capped(scores, self.softcap)


def soft_capped(x: jax.Array, cap: float | None) -> jax.Array:
    """c tanh(x / c) for the cap c (arXiv 2408.00118); x for None."""
    return x if cap is None else cap * jnp.tanh(x / cap)


@dataclass(frozen=True)
class Part:
    """Some of the positions that queries attend to."""

    held: Callable[[], tuple[jax.Array, ...]]
    """Gives k and v `[B, K, S, head_dim]` (the cache's layout), and their scales `[B, K, S]` where they are int8."""
    mask: jax.Array
    """bool `[B or 1, L, S]`: what each query sees."""
    reached: jax.Array | None = None
    """bool: whether any query sees any of it, found out when the program runs; None takes it as reached."""


def attend(q: jax.Array, parts: Sequence[Part], scoring: Scoring) -> jax.Array:
    """Grouped-query attention with an fp32 softmax.

    q `[B, L, H, head_dim]`; returns `[B, L, H, head_dim]`. Scales of quantized keys and values go onto scores and
    weights, so that no dequantized cache is made. With positions inside the heads both products are plain batched
    matrix products, with no transposed copy of the cache in each step (7 times faster on a CPU for 512 rows of a
    96-wide model).

    The softmax over several parts is put together from those of each (as in arXiv 2205.14135): a part that a query does
    not see adds exactly nothing, whether it is left out or not.
    """
    batch, length, heads, head_dim = q.shape

    def scores_of(grouped: jax.Array, k: jax.Array, seen: jax.Array, k_scale: jax.Array | None = None) -> jax.Array:
        """`[B, K, G, L, S]`"""
        if length == 1:
            # XLA on a CPU repacks the right factor of a product: with the keys on the left (where the barrier keeps
            # them) the scores of a cache of 1,024 positions take half the time
            scores = jnp.einsum("bksd,bkqd->bksq", k, grouped, preferred_element_type=jnp.float32)
            scores = jax.lax.optimization_barrier(scores).swapaxes(2, 3)
        else:
            scores = jnp.einsum("bkqd,bksd->bkqs", grouped, k, preferred_element_type=jnp.float32)
        scores = scores * scoring.scale
        scores = scores.reshape(batch, k.shape[1], -1, length, k.shape[2])
        if k_scale is not None:
            scores = scores * k_scale[:, :, None, None]
        return jnp.where(seen[:, None, None], scoring.bounded(scores), jnp.finfo(jnp.float32).min)

    def weighed(weights: jax.Array, v: jax.Array, v_scale: jax.Array | None = None) -> jax.Array:
        """`[B, K, G, L, head_dim]`"""
        if v_scale is not None:
            weights = weights * v_scale[:, :, None, None]
        flat = weights.astype(v.dtype).reshape(batch, v.shape[1], -1, v.shape[2])
        return jnp.einsum("bkqs,bksd->bkqd", flat, v).reshape(*weights.shape[:4], head_dim)

    def grouped_by(kv_heads: int) -> jax.Array:
        grouped = q.reshape(batch, length, kv_heads, -1, head_dim).transpose(0, 2, 3, 1, 4)
        return grouped.reshape(batch, kv_heads, -1, head_dim)

    def whole() -> jax.Array:
        k, v, *scales = parts[0].held()
        scores = scores_of(grouped_by(k.shape[1]), k, parts[0].mask, *scales[:1])
        return weighed(jax.nn.softmax(scores, axis=-1), v, *scales[1:])

    def attended(part: Part) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The largest score and the sum of the weights `[B, K, G, L, 1]`, and the mean of the values by the weights.

        Divided by the sum here, since XLA on a CPU hands a product at the end of a branch to Eigen, which takes the
        parts of a step of 32 slots a fifth longer than YNNPACK.
        """
        k, v, *scales = part.held()
        scores = scores_of(grouped_by(k.shape[1]), k, part.mask, *scales[:1])
        top = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        return top, total, weighed(weights, v, *scales[1:]) / total

    def nothing(part: Part) -> tuple[jax.Array, jax.Array, jax.Array]:
        top, total, out = jax.eval_shape(functools.partial(attended, part))
        least = jnp.full(top.shape, jnp.finfo(top.dtype).min, top.dtype)
        return least, jnp.zeros(total.shape, total.dtype), jnp.zeros(out.shape, out.dtype)

    def found(part: Part) -> tuple[jax.Array, jax.Array, jax.Array]:
        if part.reached is None:
            return attended(part)
        return jax.lax.cond(part.reached, functools.partial(attended, part), functools.partial(nothing, part))

    if len(parts) == 1:
        out = whole()
    else:
        tops, sums, outs = zip(*map(found, parts), strict=True)
        shares = [jnp.exp(top - functools.reduce(jnp.maximum, tops)) for top in tops]
        masses = [share * n for share, n in zip(shares, sums, strict=True)]
        weighed_outs = [mass * part for mass, part in zip(masses, outs, strict=True)]
        out = functools.reduce(jnp.add, weighed_outs) / functools.reduce(jnp.add, masses)
        out = out.astype(q.dtype)
    return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, head_dim)


def silu(x: jax.Array) -> jax.Array:
    """x / (1 + exp(-x)). XLA's own logistic on a CPU is off by several units in the last place."""
    # past 80 the exponential overflows and its gradient would be no number
    return x / (1 + jnp.exp(-jnp.maximum(x, -80)))


def activated(x: jax.Array, kind: str) -> jax.Array:
    """`silu` or `gelu` (by tanh) of the gate of a feed-forward."""
    return silu(x) if kind == "silu" else jax.nn.gelu(x, approximate=True)
