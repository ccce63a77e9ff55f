"""Which tokens top-k and top-p keep: by bisection on a score's bits, since to sort the vocabulary takes far longer.

A score is at most 0, so its bits without the sign are an integer that grows as it falls; halving the range of such
integers 31 times finds any threshold exactly, each time by one sum over the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

_LOWEST = 0x7F800000
"""Of a score of -inf."""
_HALVINGS = 31


def largest_kept(scores: jax.Array, top_k: jax.Array, mass: jax.Array) -> jax.Array:
    """bool[B, V]: the top_k[B] largest scores f32[B, V], and of those the fewest whose share of their probability
    reaches mass[B]; of equal ones at the edge, those of lower index.

    Scores are at most 0, and exp(score) is what a token's probability goes by. top_k is 1 to V. A mass of 1 or more
    keeps all of the top_k; one token is always kept. Sums are rounded to float32.
    """
    depth = jax.lax.bitcast_convert_type(scores, jnp.int32) & 0x7FFFFFFF
    n_rows, vocab = scores.shape

    def count(seen: jax.Array) -> jax.Array:
        return jnp.sum(seen, axis=-1, dtype=jnp.int32)

    def k_th() -> jax.Array:
        return _least(n_rows, lambda edge: count(depth <= edge[:, None]) >= top_k)

    # the depth of the last one kept, and how many are: of the top_k, then of those by their mass
    edge = jax.lax.cond(jnp.any(top_k < vocab), k_th, lambda: jnp.max(depth, axis=-1))

    def by_mass() -> tuple[jax.Array, jax.Array]:
        weights = jnp.exp(scores)

        def above(at: jax.Array) -> jax.Array:
            return jnp.sum(jnp.where(depth < at[:, None], weights, 0), axis=-1)

        def weight(at: jax.Array) -> jax.Array:
            return jnp.exp(-jax.lax.bitcast_convert_type(at, jnp.float32))

        tied_in_k = (top_k - count(depth < edge[:, None])).astype(jnp.float32)
        wanted = mass * (above(edge) + tied_in_k * weight(edge))
        last = _least(n_rows, lambda at: (at >= edge) | (above(at + 1) >= wanted))
        whole = count(depth < last[:, None])
        part = jnp.ceil((wanted - above(last)) / weight(last))  # of those that are equal at the edge
        tied = jnp.minimum(count(depth == last[:, None]), top_k - whole)
        kept = whole + jnp.clip(jnp.nan_to_num(part, posinf=vocab), 1, tied).astype(jnp.int32)
        return jnp.where(mass < 1, last, edge), jnp.where(mass < 1, kept, top_k)

    edge, n_kept = jax.lax.cond(jnp.any(mass < 1), by_mass, lambda: (edge, top_k))
    tied = depth == edge[:, None]
    room = n_kept - count(depth < edge[:, None])

    def first() -> jax.Array:
        return tied & (jnp.cumsum(tied, axis=-1, dtype=jnp.int32) <= room[:, None])

    return (depth < edge[:, None]) | jax.lax.cond(jnp.any(count(tied) > room), first, lambda: tied)


def _least(n_rows: int, reached: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The least depth i32[B] of each row from which on `reached` says True."""

    def halve(_: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = low + (high - low) // 2
        inside = reached(middle)
        return jnp.where(inside, low, middle + 1), jnp.where(inside, middle, high)

    ends = jnp.zeros(n_rows, jnp.int32), jnp.full(n_rows, _LOWEST, jnp.int32)
    return jax.lax.fori_loop(0, _HALVINGS, halve, ends)[1]
