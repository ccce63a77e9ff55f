"""AdamW and its learning rates."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import optax

from selfevo_jax.train.settings import TrainConfig


def schedule(settings: TrainConfig) -> optax.Schedule:
    """Learning rate after n updates: a rise from 0 to the peak over `warmup_steps`, then the decay to the end."""
    peak, warmup = settings.learning_rate, settings.warmup_steps
    falling = settings.steps - warmup + (settings.end_fraction == 0)
    if settings.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, falling, settings.end_fraction)
    else:
        decay = optax.linear_schedule(peak, peak * settings.end_fraction, falling)
    if not warmup:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), decay], [warmup])


def learning_rates(settings: TrainConfig) -> np.ndarray:
    """float32 `[steps]`: the learning rate of each step, a function of the step alone.

    Step s takes the schedule at s + 1, so that the first step already learns and the last has the end value.
    """
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return np.asarray(_rates(np.arange(1, settings.steps + 1), settings), np.float32)


@functools.partial(jax.jit, static_argnames="settings")
def _rates(updates: jax.Array, settings: TrainConfig) -> jax.Array:
    """One program in place of one for each of its operations."""
    rates: jax.Array = jax.vmap(schedule(settings))(updates)
    return rates


def decayed(params: Any) -> Any:
    """True for the leaves that weight decay acts on: matrices and embeddings, not norms or biases."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in {"scale", "bias"}, params)


def make_optimizer(settings: TrainConfig) -> optax.GradientTransformation:
    """Clip by global norm, Adam moments, decoupled decay (arXiv 1711.05101). The step multiplies by -(learning rate).

    The rate stays outside, as a value: changing a schedule must not recompile the step.
    """
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.scale_by_adam(settings.b1, settings.b2, settings.eps, mu_dtype=settings.first_moment_dtype),
        optax.add_decayed_weights(settings.weight_decay, mask=decayed),
    )
