"""An objective through the fused head: its gradient is that of token weights, and logits are never whole."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from selfevo_jax.data import Batch
from selfevo_jax.errors import ConfigError, SelfevoError, first_line
from selfevo_jax.train.loss import HeadLoss, shifted
from selfevo_jax.train.objectives.base import TEACHER_IDS, TEACHER_LOGPS, Objective, Targets


def objective_sums(
    objective: Objective,
    head: HeadLoss,
    hidden: jax.Array,
    table: jax.Array,
    batch: Batch,
    across: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The objective's sum, what it is divided by, the number of targets, and the sums and counts of its figures
    `[F, 2]`, for states `[B, L, D]`.

    With c the derivative of the sum by the log-probability of each target, its gradient is that of the sum of
    stop(c) times log-probability: what `HeadLoss` makes for token weights -c, which may have any sign. Where c depends
    on the log-probabilities, one pass of the head without a gradient finds them first. `across`: see `Targets`.
    """
    ids, weights = shifted(batch)
    targets = targets_of(batch, across)
    count = jnp.sum(weights != 0)
    if TEACHER_IDS in objective.reads:
        ids = jnp.concatenate([ids[:, :, None], targets.extras[TEACHER_IDS].astype(jnp.int32)], axis=2)
        weights = jnp.broadcast_to(weights[:, :, None], ids.shape)

    def loss(logps: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _called(objective, logps, targets)

    if objective.linear:
        by_logp, denominator = jax.grad(loss, has_aux=True)(jnp.zeros_like(weights))
        return head.total(hidden, table, ids, -by_logp), denominator, count, jnp.zeros((0, 2))
    logps = head.logps(*jax.lax.stop_gradient((hidden, table)), ids, weights)
    (value, denominator), by_logp = jax.value_and_grad(loss, has_aux=True)(logps)
    surrogate = head.total(hidden, table, ids, jax.lax.stop_gradient(-by_logp))
    value = value + (surrogate - jax.lax.stop_gradient(surrogate))
    return value, denominator, count, _figures(objective, logps, targets)


def shown_by(objective: Objective) -> tuple[str, ...]:
    """The names of its figures."""
    return () if objective.linear else getattr(objective, "shows", ())


def _figures(objective: Objective, logps: jax.Array, targets: Targets) -> jax.Array:
    if not shown_by(objective):
        return jnp.zeros((0, 2))
    found: jax.Array = objective.figures(logps, targets)  # type: ignore[attr-defined]  # of those alone that show some
    return found


def extra_shapes(objective: Objective) -> dict[str, tuple[int, ...]]:
    """The extras that an objective reads, each with the shape that it has for each token."""
    wide = {TEACHER_IDS, TEACHER_LOGPS}
    return {name: (_top_k(objective),) if name in wide else () for name in objective.reads}


def _top_k(objective: Objective) -> int:
    count: int = objective.top_k  # type: ignore[attr-defined]  # of those alone that read a teacher
    return count


def targets_of(batch: Batch, across: str | None = None) -> Targets:
    """What there is to predict."""
    extras = {name: _of_targets(x) for name, x in batch.extras.items()}
    return Targets(shifted(batch)[1], _of_targets(batch.segment_ids), extras, across)


def _of_targets(x: jax.Array) -> jax.Array:
    """What tokens `[B, L]` have, at the index that each is the target of."""
    return jnp.roll(x, -1, axis=1).at[:, -1].set(0)


def _called(objective: Objective, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
    """Its loss. Raises ConfigError where code that is not ours fails, or gives something else."""
    try:
        total, denominator = objective.loss(logps, targets)
        total, denominator = jnp.asarray(total, jnp.float32), jnp.asarray(denominator, jnp.float32)
    except SelfevoError:
        raise
    except Exception as error:
        raise ConfigError(f"objective {objective.name} fails: {type(error).__name__}: {first_line(error)}") from error
    if total.shape or denominator.shape:
        raise ConfigError(
            f"objective {objective.name}: its loss gives arrays of shape {total.shape} and {denominator.shape}, "
            "expected two numbers: a sum, and what it is divided by"
        )
    return total, denominator
