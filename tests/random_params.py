"""Parameters of a model that numpy draws: no program is compiled for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from selfevo_jax.model import abstract_params


@functools.cache
def random_params(config, seed=0, scale=0.02):
    """Norms are ones, all else is normal with this deviation; always the same arrays."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) * scale if len(x.shape) > 1 else np.ones(x.shape), x.dtype),
        abstract_params(config),
    )
