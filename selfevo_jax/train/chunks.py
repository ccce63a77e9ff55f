"""Logits of the tokens of one device, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from selfevo_jax.model.attention import soft_capped


class Scores(NamedTuple):
    """Of a chunk of N tokens, with V logits each."""

    states: jax.Array
    weights: jax.Array
    """`[N]`, or `[N, C]` where each has C targets."""
    nll: jax.Array
    """-log-probabilities of the targets."""
    shares: jax.Array
    norm: jax.Array
    hit: jax.Array
    """bool `[N, V]`: where the (first) target is."""
    slope: jax.Array | None
    """Of the bounded logits by the free ones."""
    others: jax.Array | None = None
    """int32 `[N, C - 1]`: the places of the further targets among the logits; V is none of them."""

    def by_logit(self) -> jax.Array:
        """The derivative of the weighted sum of `nll` by the free logits."""
        counts, w = _counts(self.weights)[:, None], self.weights
        shares = self.shares / self.norm[:, None]
        if self.others is None:
            found = (shares - self.hit) * w[:, None]
        else:
            found = shares * w.sum(axis=1, keepdims=True) - self.hit * w[:, :1]
            row = jnp.arange(len(w))[:, None]
            found = found.at[row, self.others].add(-w[:, 1:], mode="drop")
        found = jnp.where(counts, found, 0.0)
        return found if self.slope is None else found * self.slope


def _counts(weights: jax.Array) -> jax.Array:
    """Whether each of N tokens has a target, for weights `[N]` or `[N, C]`."""
    return weights != 0 if weights.ndim == 1 else jnp.any(weights != 0, axis=1)


class Chunks:
    """The tokens of one device, those with a target first, in chunks whose logits are held at once."""

    def __init__(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        *,
        count: int,
        tied: bool,
        vocab_axes: tuple[str, ...],
        softcap: float | None,
    ) -> None:
        """States `[B, L, D]`; targets and weights `[B, L]`, or `[B, L, C]` of C tokens each. `count`: of the chunks.
        `tied`: the table is `[V, D]`, else `[D, V]`. `vocab_axes`: the mapped axes that its vocabulary lies over."""
        v, self._d = (0, 1) if tied else (1, 0)
        size, n = table.shape[v], targets.shape[0] * targets.shape[1]
        self._vocab_axes, self._table, self._n, self._size = vocab_axes, table, n, size
        self._first = jax.lax.axis_index(vocab_axes) * size if vocab_axes else 0
        self._softcap = softcap
        self._count = count
        self.chunk = -(-n // self._count)
        flat = weights.reshape(n, *weights.shape[2:])
        order = jnp.argsort(~_counts(flat), stable=True)
        # places without a token: all zeros
        self._order = jnp.pad(order, (0, self._count * self.chunk - n), constant_values=n)
        sources = (hidden.reshape(n, -1), targets.reshape(flat.shape), flat)
        self.states, self._ids, self._flat = (x.at[self._order].get(mode="fill", fill_value=0) for x in sources)
        self._used = -(-jnp.sum(_counts(self._flat)) // self.chunk)

    def over_vocab(self, x: jax.Array, reduce: Any = jax.lax.psum) -> jax.Array:
        return reduce(x, self._vocab_axes) if self._vocab_axes else x

    def scores(self, i: jax.Array) -> Scores:
        """Of chunk i."""
        h, t, w = (self._of(x, i) for x in (self.states, self._ids, self._flat))
        logits = self._logits(h)
        slope = None if self._softcap is None else 1 - jnp.square(logits / self._softcap)
        top, shares, norm = self._normed(logits)
        first = t if t.ndim == 1 else t[:, 0]
        hit = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) + self._first == first[:, None]
        picked = self.over_vocab(jnp.sum(jnp.where(hit, logits, 0.0), axis=1))
        nll = jnp.log(norm) + top - picked
        if t.ndim == 1:
            return Scores(h, w, nll, shares, norm, hit, slope)
        at = t[:, 1:] - self._first
        at = jnp.where((at >= 0) & (at < self._size), at, self._size)  # those of other devices: beyond the end
        others = jnp.take_along_axis(logits, at, axis=1, mode="fill", fill_value=0.0)
        nll_of_others = (jnp.log(norm) + top)[:, None] - self.over_vocab(others)
        return Scores(h, w, jnp.concatenate([nll[:, None], nll_of_others], axis=1), shares, norm, hit, slope, at)

    def likeliest(self, i: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        """Of chunk i: the likeliest tokens and their log-probabilities, 0 where there is no target."""
        h, w = self._of(self.states, i), self._of(self._flat, i)
        logits = self._logits(h)
        top, _, norm = self._normed(logits)
        values, ids = jax.lax.top_k(logits, min(count, self._size))
        ids = ids + self._first
        if self._vocab_axes:
            values, ids = (jax.lax.all_gather(x, self._vocab_axes, axis=1, tiled=True) for x in (values, ids))
            values, at = jax.lax.top_k(values, count)
            ids = jnp.take_along_axis(ids, at, axis=1)
        there = (w != 0)[:, None]
        return jnp.where(there, ids, 0), jnp.where(there, values - (jnp.log(norm) + top)[:, None], 0.0)

    def _of(self, x: jax.Array, i: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(x, i * self.chunk, self.chunk)

    def _logits(self, states: jax.Array) -> jax.Array:
        contracted = (((1,), (self._d,)), ((), ()))
        logits = jax.lax.dot_general(states, self._table, contracted, preferred_element_type=jnp.float32)
        return logits if self._softcap is None else soft_capped(logits, self._softcap)

    def _normed(self, logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The largest logit of each row, exp of each less this one, and the sum of these."""
        top = self.over_vocab(logits.max(axis=1), jax.lax.pmax)
        shares = jnp.exp(logits - top[:, None])
        return top, shares, self.over_vocab(shares.sum(axis=1))

    def loop(self, one: Callable[..., tuple[jax.Array, ...]], start: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        """Over the chunks that hold a target."""
        with jax.named_scope(f"at_most_{self._count}_trips"):
            return jax.lax.fori_loop(0, self._used, one, start)

    def in_place(self, x: jax.Array) -> jax.Array:
        """What is there for each token of the chunks `[N, ...]`, in the order of the tokens."""
        return x[jnp.argsort(self._order)[: self._n]]
