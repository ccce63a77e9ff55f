"""Products with matrices: of plain parameters, of int8 ones, with adapters, or by the kernel in C."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from selfevo_jax.model.initial import matrix_init, scale_free
from selfevo_jax.model.int8 import is_int8
from selfevo_jax.native.calls import products


class Linear(nn.Module):
    """A matrix product over the last `inputs` axes, with an optional bias; int8 kernels have a scale an output.

    Where the collection `lora` holds `a [inputs, R]` and `b [R, outputs]` for it, their product is added to the kernel
    (arXiv 2106.09685). Where there are `panels` in place of a kernel (`panelled_params`), the product is made in C.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    dtype: Any
    param_dtype: Any
    inputs: int = 1
    bias: bool = False
    out_dtype: Any = None
    """Of the output, which the product is summed in and made in; None: `dtype`."""

    @property
    def width(self) -> int:
        return math.prod(self.shape[: self.inputs])

    @property
    def columns(self) -> int:
        return math.prod(self.shape[self.inputs :])

    def panels(self) -> Any:
        """None where there is a kernel."""
        return self.get_variable("params", "panels") if self.has_variable("params", "panels") else None

    def rows_of(self, x: jax.Array) -> jax.Array:
        """x as the left factor of one plain product."""
        return x.astype(self.dtype).reshape(-1, self.width)

    @nn.compact
    def __call__(self, x: jax.Array, made: jax.Array | None = None) -> jax.Array:
        """`made`: the product with the kernel, where it was made before (`together`)."""
        outputs, out_dtype = self.shape[self.inputs :], self.out_dtype or self.dtype
        # one plain matrix product: with two batch axes XLA's CPU compiler makes a transposed copy of the output's
        # gradient for each weight gradient, which doubles the time of the feed-forward's backward pass
        kept = x.shape[: x.ndim - self.inputs]
        flat, panels = self.rows_of(x), self.panels()
        if made is not None:
            y = made
        elif panels is not None:
            (y,) = products(flat, [panels], [self.columns])
        else:
            kernel: Any = self.param(
                "kernel",
                nn.with_logical_partitioning(matrix_init(self.param_dtype), self.axes),
                self.shape,
                self.param_dtype,
            )
            y = jnp.matmul(
                flat, kernel.astype(self.dtype).reshape(self.width, -1), preferred_element_type=self.out_dtype
            )
        if self.has_variable("lora", "a"):
            a, b = (jnp.asarray(self.get_variable("lora", name), self.dtype) for name in ("a", "b"))
            y = y + (flat @ a.reshape(self.width, -1)) @ b.reshape(b.shape[0], -1)
        y = y.reshape(*kept, *outputs)
        if is_int8(self.param_dtype):
            ones = nn.with_logical_partitioning(nn.initializers.ones, self.axes[self.inputs :])
            scale: Any = self.param("scale", ones, outputs, jnp.float32)
            y = (y * scale).astype(out_dtype)
        if self.bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[self.inputs :])
            bias: Any = self.param("bias", zeros, outputs, scale_free(self.param_dtype))
            y = y + bias.astype(out_dtype)
        return y


def together(x: jax.Array, *linears: Linear) -> list[jax.Array]:
    """What several make of the same states: in one call where their kernels lie in panels."""
    panels = [linear.panels() for linear in linears]
    if any(one is None for one in panels):
        return [linear(x) for linear in linears]
    made = products(linears[0].rows_of(x), panels, [linear.columns for linear in linears])
    return [linear(x, one) for linear, one in zip(linears, made, strict=True)]
