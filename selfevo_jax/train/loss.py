"""Next-token loss on weighted target tokens, as sums: only the caller that has seen every part may divide."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from selfevo_jax.data import Batch

LOGIT_BUDGET = 1 << 24
"""Logits (fp32 numbers on one device) that are held at once; above it the loss runs over chunks of the length."""


def shifted(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Target of each index and its weight, `[B, L]`: index i predicts token i + 1. The last index has weight 0.

    The first token of a segment weighs 0 as a target, so nothing is predicted across segments.
    """
    targets = jnp.roll(batch.tokens, -1, axis=1)
    weights = jnp.roll(batch.weights, -1, axis=1).at[:, -1].set(0.0)
    return targets, weights


def weighted_nll(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum of weights times -log softmax(logits)[target], in fp32. logits `[..., V]`, targets and weights `[...]`."""
    logits = logits.astype(jnp.float32)
    # a masked sum and no gather: its gradient is fused, where a gather's is a serial scatter on CPUs
    hit = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == targets[..., None]
    picked = jnp.sum(jnp.where(hit, logits, 0.0), axis=-1)
    nll = jax.nn.logsumexp(logits, axis=-1) - picked
    # 0 times a non-finite loss would be NaN: an index without a target must not count at all
    return jnp.sum(jnp.where(weights > 0, nll, 0.0) * weights)


def token_loss_sums(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Sum of w * nll, sum of w, and metrics (sums too), for logits `[B, L, V]` of the whole batch."""
    targets, weights = shifted(batch)
    return weighted_nll(logits, targets, weights), weights.sum(), {"targets": jnp.sum(weights > 0)}


def length_chunks(rows: int, length: int, vocab: int, budget: int = LOGIT_BUDGET) -> int:
    """The least number of equal chunks of the length whose logits fit the budget."""
    for count in range(1, length + 1):
        if length % count == 0 and rows * (length // count) * vocab <= budget:
            return count
    return length


def chunked_loss_sums(
    hidden: jax.Array, unembed: Callable[[jax.Array], jax.Array], batch: Batch, chunks: int
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """`token_loss_sums` of `unembed(hidden)` for states `[B, L, D]`, with the logits of one chunk alive at a time.

    Each row's targets are moved to its front, and chunks without a target are passed over: prompts need no logits.
    """
    if chunks == 1:
        return token_loss_sums(unembed(hidden), batch)
    targets, weights = shifted(batch)
    order = jnp.argsort(weights <= 0, axis=1, stable=True)

    def split(x: jax.Array) -> jax.Array:
        front = jnp.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), axis=1)
        return jnp.moveaxis(front.reshape(x.shape[0], chunks, -1, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def one(total: jax.Array, part: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        states, chunk_targets, chunk_weights = part
        found = jax.lax.cond(
            jnp.any(chunk_weights > 0),
            lambda: weighted_nll(unembed(states), chunk_targets, chunk_weights),
            lambda: jnp.zeros((), jnp.float32),
        )
        return total + found, None

    total, _ = jax.lax.scan(one, jnp.zeros((), jnp.float32), (split(hidden), split(targets), split(weights)))
    return total, weights.sum(), {"targets": jnp.sum(weights > 0)}
