"""What parameters begin as, and the dtype of those that int8 leaves alone."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from selfevo_jax.model.int8 import is_int8

_KERNEL = nn.initializers.normal(0.02)


def scale_free(param_dtype: Any) -> Any:
    """The dtype of norms, biases and routers: int8 holds matrices alone."""
    return jnp.float32 if is_int8(param_dtype) else param_dtype


def matrix_init(param_dtype: Any) -> nn.initializers.Initializer:
    """int8 matrices are made from float ones (`quantize_params`), never drawn."""
    return nn.initializers.zeros if is_int8(param_dtype) else _KERNEL
