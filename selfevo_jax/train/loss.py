"""Next-token loss on weighted target tokens, as sums: only the caller that has seen every part may divide."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from selfevo_jax.data import Batch
from selfevo_jax.train.chunks import Chunks

LOGIT_BUDGET = 1 << 24
"""Logits (fp32 numbers on one device) that are held at once; above it the loss runs over chunks of the tokens."""
_LEAST_CHUNK = 512
"""Tokens of a chunk at least: each chunk reads and writes the whole gradient of the head."""
_FROZEN_CHUNK = 128
"""The same for a head that does not learn: a chunk only reads the table."""
_FROZEN_CHUNKS = 8
"""Into how many chunks the tokens are divided at most for a head that does not learn: what has no target is passed over
by whole chunks."""


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
    return jnp.sum(jnp.where(weights != 0, nll, 0.0) * weights)


def token_loss_sums(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Sum of w * nll, sum of w, and metrics (sums too), for logits `[B, L, V]` of the whole batch; `HeadLoss` gives the
    same without holding them."""
    targets, weights = shifted(batch)
    return weighted_nll(logits, targets, weights), weights.sum(), {"targets": jnp.sum(weights != 0)}


def chunk_count(tokens: int, vocab: int, budget: int = LOGIT_BUDGET, least: int = _LEAST_CHUNK) -> int:
    """The least number of chunks of the tokens whose logits fit the budget (or are few enough tokens)."""
    return -(-tokens // max(budget // vocab, least))


_PIECE = 1 << 26
"""Numbers of the table's gradient that are added to at once: the sum is made beside what it is added to."""
_LANES = 128


def table_cuts(vocab: int, width: int, piece: int = _PIECE) -> list[int]:
    """Where to cut the vocabulary into about equal parts, at whole lanes, to sum a table of this width in.

    A part may be 1.4 pieces: a few larger ones are better than very many.
    """
    parts = max(1, min(math.ceil(0.7 * vocab * width / piece), vocab // _LANES))
    return [i * vocab // (parts * _LANES) * _LANES for i in range(1, parts)]


@dataclass(frozen=True)
class HeadLoss:
    """The loss of states under an unembedding, with the logits of one chunk of tokens alive at a time.

    The gradient is made in the forward pass, while a chunk's logits are there: they are computed once, where
    `jax.checkpoint` would compute them twice, and are never whole (the idea of "Liger Kernel", arXiv 2410.10989). Each
    device works on its own tokens, those with a target first; what has no target is passed over. The table's gradient
    is summed over devices once, after the last chunk.
    """

    tied: bool
    """The table is `[V, D]`; else `[D, V]`."""
    layout: NamedSharding
    """Of the table and its gradient."""
    row_axes: tuple[str, ...] = ()
    """Mesh axes that the rows lie over."""
    learns: bool = True
    """Whether the table's gradient is wanted."""
    softcap: float | None = None
    """Bounds logits x to c tanh(x / c); None leaves them."""
    budget: int = LOGIT_BUDGET
    least_chunk: int = _LEAST_CHUNK
    piece: int = _PIECE

    def total(self, hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        """The sum of weight times -log-probability, for states `[B, L, D]`, targets and weights `[B, L]` (of any sign;
        0 is no target); differentiable in `hidden` and `table`. `[B, L, C]` are C tokens for each state; those behind
        the first differ from each other where they have a weight."""
        return _head_loss(self, hidden, table, targets, weights)

    def logps(self, hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        """Log-probabilities `[B, L]` (`[B, L, C]`) of the targets, 0 where the weight is; not to be differentiated."""
        return self._by_row(self._local_logps, 1, hidden, table, targets, weights)

    def likeliest(
        self, hidden: jax.Array, table: jax.Array, weights: jax.Array, count: int
    ) -> tuple[jax.Array, jax.Array]:
        """The likeliest tokens for states `[B, L, D]`, the first one first (of equal ones the lower id), and their
        log-probabilities, `[B, L, count]`; 0 where the weight `[B, L]` is. Not to be differentiated."""
        local = functools.partial(self._local_likeliest, most=count)
        return self._by_row(local, 2, hidden, table, jnp.zeros(weights.shape, jnp.int32), weights)

    def _by_row(self, local: Callable[..., Any], outputs: int, hidden: jax.Array, table: jax.Array, *rest: Any) -> Any:
        """What `local` makes of the rows of each device, one array or several."""
        vocab_axes, _ = self._axes()
        rows, local = PartitionSpec(self.row_axes), functools.partial(local, vocab_axes=vocab_axes)
        table = table.astype(hidden.dtype)
        if self.alone:
            return local(hidden, table, *rest)
        specs = (rows, self._vocab(), *[rows] * len(rest))
        made = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=specs,
            out_specs=rows if outputs == 1 else (rows,) * outputs,
            check_vma=False,
        )
        return made(hidden, table, *rest)

    def _vocab(self) -> PartitionSpec:
        """How the table lies in a computation: its width whole on every device."""
        vocab_axes, _ = self._axes()
        return PartitionSpec(vocab_axes) if self.tied else PartitionSpec(None, vocab_axes)

    def chunks(self, tokens: int, vocab: int) -> int:
        """Of a device that has so many tokens and so much of the vocabulary."""
        count = chunk_count(tokens, vocab, self.budget, self.least_chunk)
        return count if self.learns else max(count, min(_FROZEN_CHUNKS, -(-tokens // _FROZEN_CHUNK)))

    @property
    def mesh(self) -> Mesh:
        mesh: Any = self.layout.mesh
        return mesh

    @property
    def alone(self) -> bool:
        return self.mesh.size == 1

    def _axes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Mesh axes of the table's vocabulary and of its width."""
        parts = [() if p is None else (p,) if isinstance(p, str) else tuple(p) for p in self.layout.spec]
        parts += [()] * (2 - len(parts))
        return (parts[0], parts[1]) if self.tied else (parts[1], parts[0])

    def _chunks(
        self, hidden: jax.Array, table: jax.Array, *of_tokens: jax.Array, vocab_axes: tuple[str, ...]
    ) -> Chunks:
        tokens, vocab = hidden.shape[0] * hidden.shape[1], table.shape[0 if self.tied else 1]
        return Chunks(
            hidden,
            table,
            *of_tokens,
            count=self.chunks(tokens, vocab),
            tied=self.tied,
            vocab_axes=() if self.alone else vocab_axes,
            softcap=self.softcap,
        )

    def _outputs(self, gradients: bool) -> int:
        return 1 if not gradients else 3 if self.learns else 2

    def compute(
        self, hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array, gradients: bool
    ) -> tuple[jax.Array, ...]:
        """The sum, and with `gradients` those of hidden and (fp32) of the table."""
        vocab_axes, width_axes = self._axes()
        rows = PartitionSpec(self.row_axes)
        local = functools.partial(self._local, gradients=gradients, vocab_axes=vocab_axes, width_axes=width_axes)
        if self.alone:
            return local(hidden, table.astype(hidden.dtype), targets, weights)
        return jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(rows, self._vocab(), rows, rows),
            out_specs=(PartitionSpec(), rows, self.layout.spec)[: self._outputs(gradients)],
            check_vma=False,
        )(hidden, table.astype(hidden.dtype), targets, weights)

    def _local_logps(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        *,
        vocab_axes: tuple[str, ...],
    ) -> jax.Array:
        made = self._chunks(hidden, table, targets, weights, vocab_axes=vocab_axes)

        def one(i: jax.Array, found: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            scored = made.scores(i)
            logps = jnp.where(scored.weights != 0, -scored.nll, 0.0)
            return (jax.lax.dynamic_update_slice_in_dim(found[0], logps, i * made.chunk, 0),)

        (found,) = made.loop(one, (jnp.zeros((made.states.shape[0], *targets.shape[2:]), jnp.float32),))
        return made.in_place(found).reshape(targets.shape)

    def _local_likeliest(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        *,
        vocab_axes: tuple[str, ...],
        most: int,
    ) -> tuple[jax.Array, ...]:
        made = self._chunks(hidden, table, targets, weights, vocab_axes=vocab_axes)

        def one(i: jax.Array, found: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            ids, logps = made.likeliest(i, most)
            return tuple(
                jax.lax.dynamic_update_slice_in_dim(x, new, i * made.chunk, 0)
                for x, new in zip(found, (ids, logps), strict=True)
            )

        shape = (made.states.shape[0], most)
        found = made.loop(one, (jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)))
        return tuple(made.in_place(x).reshape(*weights.shape, most) for x in found)

    def _local(
        self,
        hidden: jax.Array,
        table: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        *,
        gradients: bool,
        vocab_axes: tuple[str, ...],
        width_axes: tuple[str, ...],
    ) -> tuple[jax.Array, ...]:
        v, d = (0, 1) if self.tied else (1, 0)
        made = self._chunks(hidden, table, targets, weights, vocab_axes=vocab_axes)
        chunk, states = made.chunk, made.states
        cuts = table_cuts(table.shape[v], hidden.shape[-1], self.piece)

        def one(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            scored = made.scores(i)
            h, w = scored.states, scored.weights
            # 0 times a non-finite loss would be NaN: an index without a target must not count at all
            total = sums[0] + jnp.sum(jnp.where(w != 0, scored.nll * w, 0.0))
            if not gradients:
                return (total,)
            by_logit = scored.by_logit().astype(h.dtype)
            by_state = jax.lax.dot_general(by_logit, table, (((1,), (v,)), ((), ())))
            by_hidden = jax.lax.dynamic_update_slice_in_dim(sums[1], by_state, i * chunk, 0)
            if not self.learns:
                return total, by_hidden
            by_table = []
            for piece, part in zip(sums[2:], jnp.split(by_logit, cuts, axis=1), strict=True):
                left, right = (part, h) if self.tied else (h, part)
                product = jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
                by_table.append(piece + product)
            return total, by_hidden, *by_table

        zeros: tuple[jax.Array, ...] = (jnp.zeros((), jnp.float32),)
        if gradients:
            zeros = (*zeros, jnp.zeros_like(states))
        if gradients and self.learns:
            zeros = (*zeros, *jnp.split(jnp.zeros(table.shape, jnp.float32), cuts, axis=v))
        total, *rest = made.loop(one, zeros)
        if gradients:
            rest[0] = made.in_place(made.over_vocab(rest[0])).reshape(hidden.shape)

        def over_devices(piece: jax.Array) -> jax.Array:
            for axis in width_axes:
                piece = jax.lax.psum_scatter(piece, axis, scatter_dimension=d, tiled=True)
            return jax.lax.psum(piece, tuple(axis for axis in self.row_axes if axis not in width_axes))

        if gradients and self.learns:
            parts = rest[1:] if self.alone else [over_devices(piece) for piece in rest[1:]]
            rest[1:] = [jnp.concatenate(parts, axis=v)]
        return total if self.alone else jax.lax.psum(total, self.row_axes), *rest


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _head_loss(
    self: HeadLoss, hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array
) -> jax.Array:
    return self.compute(hidden, table, targets, weights, gradients=False)[0]


def _head_loss_forward(
    self: HeadLoss, hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    total, *gradients = self.compute(hidden, table, targets, weights, gradients=True)
    return total, tuple(gradients)


def _head_loss_backward(self: HeadLoss, kept: tuple[jax.Array, ...], by_total: jax.Array) -> tuple[Any, ...]:
    found = [(x * by_total).astype(x.dtype) for x in kept]
    return *found, *[None] * (4 - len(found))


_head_loss.defvjp(_head_loss_forward, _head_loss_backward)
