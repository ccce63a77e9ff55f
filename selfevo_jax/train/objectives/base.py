"""The seam between a fine-tuning and what it makes small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp

REFERENCE = "reference"
"""An extra that a fine-tuning makes itself where its objective reads it: the log-probability of the example (of its
targets, by their weights) under the parameters that it starts from, before the first step. An example that has one
already keeps it."""
TOKEN_REFERENCE = "token_reference"
"""Made in the same way: the log-probability of each target."""
TEACHER_IDS, TEACHER_LOGPS = "teacher_ids", "teacher_logps"
"""Made in the same way, of the `teacher` of each example: for each target the K tokens that were likeliest in its
place, and their log-probabilities. An objective that reads them has `top_k`, this K, and the log-probabilities that it
is given are `[B, L, 1 + K]`: of the target, and of these tokens."""
MADE = (REFERENCE, TOKEN_REFERENCE, TEACHER_IDS, TEACHER_LOGPS)


@flax.struct.dataclass
class Sequences:
    """The sequences of a micro-batch `[B, S]`: s counts those of a row. There are places for more than there are."""

    logps: Any
    """float32: the sum over a sequence's targets of weight times log-probability."""
    weights: Any
    """float32: the sum of the weights."""
    there: Any
    """float32: 1 for a sequence with a target, else 0, and then all else is 0 too."""
    extras: Mapping[str, Any]
    """Name -> float32: the number of the sequence's example."""

    @property
    def mean_nll(self) -> jax.Array:
        """The mean of -log-probability over its targets; 0 where there is none."""
        return -self.logps / jnp.where(self.there > 0, self.weights, 1.0)


@flax.struct.dataclass
class Targets:
    """The targets of a micro-batch `[B, L]`: index i is about token i + 1 of its row."""

    weights: Any
    """float32; 0 where there is no target."""
    segment_ids: Any
    """int32: the sequence of its row that the target belongs to, from 1 on; 0 is padding."""
    extras: Mapping[str, Any]
    """Name -> float32, or `[B, L, K]`: the number of the target, or of the example that it belongs to
    (`Example.extras`)."""
    across: str | None = flax.struct.field(pytree_node=False, default=None)
    """A mapped axis that further rows of the micro-batch lie over."""

    def over_all(self, values: jax.Array) -> jax.Array:
        """The sum of what sequences `[B, S]` have over the whole micro-batch, whatever devices its rows lie on. Not to
        be differentiated. In the order of the devices: no bit depends on the processes that hold them."""
        total = jnp.sum(jax.lax.stop_gradient(values))
        return total if self.across is None else jnp.sum(jax.lax.all_gather(total, self.across))

    def sequences(self, logps: jax.Array) -> Sequences:
        """What log-probabilities `[B, L]` are by sequence. Masked sums and no scatter: their order is always the same,
        and the compiler never holds `[B, L, S]`."""
        places = 1 + jnp.arange(logps.shape[1], dtype=self.segment_ids.dtype)
        within = (self.segment_ids[:, :, None] == places) & (self.weights != 0)[:, :, None]

        def total(values: jax.Array) -> jax.Array:
            return jnp.sum(jnp.where(within, values[:, :, None], 0.0), axis=1)

        there = jnp.any(within, axis=1)

        def number(values: jax.Array) -> jax.Array:
            found = jnp.max(jnp.where(within, values[:, :, None], -jnp.inf), axis=1)
            return jnp.where(there, found, 0.0)

        extras = {name: number(values) for name, values in self.extras.items() if values.ndim == 2}
        return Sequences(total(self.weights * logps), total(self.weights), there.astype(jnp.float32), extras)


class Objective(Protocol):
    """What is made small. A part of the compiled step: hashable, and equal where settings are (a frozen dataclass).

    One that is not `linear` may also have `shows`, names of figures, and `figures(logps, targets)`: float32
    `[len(shows), 2]`, of each a sum and a count over this micro-batch. The mean over a step is kept with its loss.
    """

    @property
    def name(self) -> str: ...
    @property
    def reads(self) -> tuple[str, ...]:
        """The extras that it reads. Every example has them, or a fine-tuning is refused; those of `MADE` it makes."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the sum is one of log-probabilities times weights that do not depend on them. It then costs one
        product with the head a step; any other costs one more."""
        ...

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        """The sum of losses, and what the sums of all micro-batches are divided by: 0 or more, and the same whatever
        the log-probabilities are. Both are sums over sequences, each with its own targets and those of its group
        alone: rows are divided over devices and micro-batches. What reads a figure of all rows (`Targets.over_all`)
        depends on the number of micro-batches.

        Args:
          logps: float32 `[B, L]`, the log-probability of each target; 0 where there is none. JAX differentiates by it.
        """
        ...
