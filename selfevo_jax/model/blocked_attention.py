"""Causal attention within segments in plain JAX, block by block: no scores in memory, and no work on blocks unseen.

Online softmax and recomputation as in FlashAttention (arXiv 2205.14135, 2307.08691). In a packed row a block of queries
sees the key blocks from the start of its first query's segment to itself; the loop runs over those alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax.model.attention import Scoring

_LOW = jnp.finfo(jnp.float32).min


@dataclass(frozen=True)
class Blocks:
    """How scores are made, block by block."""

    window: int | None
    """A query sees this many last positions, itself included; None sees all."""
    size: int
    """Positions of a block; divides the length."""
    scoring: Scoring


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_attention(q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, blocks: Blocks) -> jax.Array:
    """`[B, L, H, head_dim]` of q like it and k, v `[B, L, K, head_dim]`; a query sees keys up to itself of its segment.

    Args:
      segment_ids: integers `[B, L]`, each segment's tokens side by side.
      blocks: of L positions.
    """
    return _forward(q, k, v, segment_ids, blocks)[0]


def _rows_of_heads(q: jax.Array, k: jax.Array) -> jax.Array:
    """`[B, K, L, G, head_dim]`: the query heads of a kv head, position by position."""
    batch, length, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    return q.reshape(batch, length, kv_heads, heads // kv_heads, head_dim).transpose(0, 2, 1, 3, 4)


def _first_blocks(segments: jax.Array, window: int | None, block: int) -> jax.Array:
    """The first key block that each block of queries of one row sees, `[L / block]`."""
    at = jnp.arange(segments.shape[0])
    begins = jnp.concatenate([jnp.ones(1, bool), segments[1:] != segments[:-1]])
    first = jax.lax.cummax(jnp.where(begins, at, 0))[::block]
    return (first if window is None else jnp.maximum(first, at[::block] - window + 1)) // block


def _block(x: jax.Array, index: Any, block: int) -> jax.Array:
    """Positions of one block of `[K, L, ...]` or `[L]`."""
    return jax.lax.dynamic_slice_in_dim(x, index * block, block, axis=min(1, x.ndim - 1))


def _put(x: jax.Array, part: jax.Array, index: Any, block: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, part, index * block, axis=1)


class _Row:
    """Scores of one row: q `[K, L, G, head_dim]`, k and v `[K, L, head_dim]`."""

    def __init__(self, q: jax.Array, k: jax.Array, segments: jax.Array, blocks: Blocks) -> None:
        self.k, self.segments, self.window, self.block = k, segments, blocks.window, blocks.size
        self.first = _first_blocks(segments, blocks.window, blocks.size)
        self.groups, self.scoring = q.shape[2], blocks.scoring

    def queries(self, x: jax.Array, i: Any) -> jax.Array:
        """Block i of `[K, L, G, ...]` as `[K, block * G, ...]`."""
        part = _block(x, i, self.block)
        return part.reshape(part.shape[0], self.block * self.groups, *part.shape[3:])

    def scores(self, queries: jax.Array, i: Any, j: Any) -> jax.Array:
        """fp32 `[K, block * G, block]` of query block i and key block j, those unseen at the least number."""
        keys = _block(self.k, j, self.block)
        scores = jnp.einsum("kqd,ksd->kqs", queries, keys, preferred_element_type=jnp.float32) * self.scoring.scale
        at = jnp.arange(self.block)
        rows, columns = (i * self.block + at)[:, None], (j * self.block + at)[None]
        sees = (rows >= columns) & (
            _block(self.segments, i, self.block)[:, None] == _block(self.segments, j, self.block)
        )
        if self.window is not None:
            sees &= rows - columns < self.window
        return jnp.where(jnp.repeat(sees, self.groups, axis=0), self.scoring.bounded(scores), _LOW)

    def slope(self, scores: jax.Array) -> jax.Array | float:
        """The derivative of bounded scores by the products."""
        if (cap := self.scoring.softcap) is None:
            return self.scoring.scale
        return self.scoring.scale * (1 - jnp.square(jnp.maximum(scores, -cap) / cap))  # what is unseen is no number


def _each_row(one: Callable[..., Any], *arrays: jax.Array) -> Any:
    return jax.lax.map(lambda parts: one(*parts), arrays)


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, blocks: Blocks
) -> tuple[jax.Array, jax.Array]:
    """The output, and the log of each query's sum of exponentials, `[B, K, L, G]`."""
    block = blocks.size

    def one(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> tuple[jax.Array, jax.Array]:
        row, kv_heads, length, groups = _Row(q, k, segments, blocks), *q.shape[:3]
        many = (kv_heads, block * groups)

        def queries(i: jax.Array) -> tuple[jax.Array, jax.Array]:
            mine = row.queries(q, i)

            def keys(j: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
                top, norm, out = sums
                scores = row.scores(mine, i, j)
                new = jnp.maximum(top, scores.max(axis=2))
                weights, old = jnp.exp(scores - new[..., None]), jnp.exp(top - new)
                found = jnp.einsum(
                    "kqs,ksd->kqd", weights.astype(v.dtype), _block(v, j, block), preferred_element_type=jnp.float32
                )
                return new, norm * old + weights.sum(axis=2), out * old[..., None] + found

            # the block of the queries themselves comes first: its diagonal gives each query a key to see
            start = (jnp.full(many, _LOW), jnp.zeros(many), jnp.zeros((*many, q.shape[3])))
            top, norm, out = jax.lax.fori_loop(row.first[i], i, keys, keys(i, start))
            return (out / norm[..., None]).astype(q.dtype), top + jnp.log(norm)

        out, logs = jax.lax.map(queries, jnp.arange(length // block))  # [L / block, K, block * G, ...]
        out = out.swapaxes(0, 1).reshape(kv_heads, length, groups, -1)
        return out, logs.swapaxes(0, 1).reshape(kv_heads, length, groups)

    out, logs = _each_row(one, _rows_of_heads(q, k), k.swapaxes(1, 2), v.swapaxes(1, 2), segment_ids)
    return out.transpose(0, 2, 1, 3, 4).reshape(q.shape), logs


def _save(
    q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, blocks: Blocks
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    out, logs = _forward(q, k, v, segment_ids, blocks)
    return out, (q, k, v, segment_ids, out, logs)


def _backward(blocks: Blocks, kept: tuple[jax.Array, ...], by_out: jax.Array) -> tuple[jax.Array | None, ...]:
    q, k, v, segment_ids, out, logs = kept
    block = blocks.size
    groups_of = functools.partial(_rows_of_heads, k=k)
    shares = jnp.sum(by_out.astype(jnp.float32) * out.astype(jnp.float32), axis=3, keepdims=True)

    def one(
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        segments: jax.Array,
        by_out: jax.Array,
        logs: jax.Array,
        shares: jax.Array,
    ) -> tuple[jax.Array, ...]:
        row, length = _Row(q, k, segments, blocks), q.shape[1]

        def queries(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            mine, by_mine = row.queries(q, i), row.queries(by_out, i)
            log, share = row.queries(logs, i), row.queries(shares, i)

            def keys(j: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
                by_q, by_k, by_v = sums
                scores = row.scores(mine, i, j)
                weights = jnp.exp(scores - log[..., None])
                by_weights = jnp.einsum(
                    "kqd,ksd->kqs", by_mine, _block(v, j, block), preferred_element_type=jnp.float32
                )
                by_scores = (weights * (by_weights - share) * row.slope(scores)).astype(q.dtype)
                to_v = jnp.einsum("kqs,kqd->ksd", weights.astype(v.dtype), by_mine, preferred_element_type=jnp.float32)
                to_k = jnp.einsum("kqs,kqd->ksd", by_scores, mine, preferred_element_type=jnp.float32)
                to_q = jnp.einsum("kqs,ksd->kqd", by_scores, _block(k, j, block), preferred_element_type=jnp.float32)
                by_k, by_v = (_put(x, _block(x, j, block) + part, j, block) for x, part in ((by_k, to_k), (by_v, to_v)))
                return by_q + to_q, by_k, by_v

            by_q, by_k, by_v = sums
            zero = jnp.zeros(mine.shape, jnp.float32)
            mine_q, by_k, by_v = jax.lax.fori_loop(row.first[i], i + 1, keys, (zero, by_k, by_v))
            part = mine_q.reshape(mine.shape[0], block, -1, mine.shape[2]).astype(q.dtype)
            return _put(by_q, part, i, block), by_k, by_v

        zeros = (jnp.zeros_like(q), jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32))
        by_q, by_k, by_v = jax.lax.fori_loop(0, length // block, queries, zeros)
        return by_q, by_k.astype(k.dtype), by_v.astype(v.dtype)

    by_q, by_k, by_v = _each_row(
        one,
        groups_of(q),
        k.swapaxes(1, 2),
        v.swapaxes(1, 2),
        segment_ids,
        groups_of(by_out),
        logs,
        groups_of(shares),
    )
    return by_q.transpose(0, 2, 1, 3, 4).reshape(q.shape), by_k.swapaxes(1, 2), by_v.swapaxes(1, 2), None


blocked_attention.defvjp(_save, _backward)
