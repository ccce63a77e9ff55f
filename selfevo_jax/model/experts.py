"""A mixture of experts: each token goes through a few of many feed-forwards, and none is left out.

Tokens are sorted by expert and multiplied group by group (MegaBlocks, arXiv 2211.15841): no capacity, so what a token
becomes does not depend on which others are there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from selfevo_jax.model.attention import activated
from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.initial import matrix_init, scale_free
from selfevo_jax.model.int8 import is_int8
from selfevo_jax.sharding import ShardingRules, on_each_device

_LANES, _ROWS, _WIDTH = 128, 512, 1024  # sizes of the kernel's tiles at most; not tuned on a chip
Matrices = dict[str, jax.Array]
"""`kernel [E, I, O]`; of int8 its `scale [E, O]`; of adapters `a [E, I, R]` and `b [E, R, O]`."""


@dataclass(frozen=True)
class ExpertMesh:
    """How tokens and experts lie on devices, and what multiplies them.

    Experts are divided over the axis that divides heads (`tensor`): states are whole along it, so each device sends its
    own tokens through its own experts, and one sum puts them together, as for a dense feed-forward. No token travels.
    """

    mesh: Mesh | None = None
    row_axes: tuple[str, ...] = ()
    expert_axes: tuple[str, ...] = ()
    by_kernel: bool = False
    """jax's Pallas kernel `gmm` in place of `jax.lax.ragged_dot`, of which XLA makes a product with every expert."""
    interpret: bool = False
    """Interprets the kernel, on any platform and slowly: for tests."""
    outer: tuple[str, ...] = ()
    """Axes of the mesh that the program is mapped over already."""

    @classmethod
    def of(cls, config: ModelConfig, mesh: Mesh | None, rules: ShardingRules) -> ExpertMesh | None:
        """None for a dense model, and for a single device without a kernel. Where experts do not divide each device has
        them all. The kernel takes widths of a multiple of 128."""
        if not config.n_experts:
            return None
        platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
        by_kernel = platform == "tpu" and config.d_model % _LANES == config.d_ff % _LANES == 0
        if mesh is None or mesh.size == 1:
            return cls(by_kernel=True) if by_kernel else None
        divided = config.n_experts % rules.ways("expert", mesh) == 0
        return cls(mesh, rules.mesh_axes("batch"), rules.mesh_axes("expert") if divided else (), by_kernel)

    def inside(self, axes: tuple[str, ...]) -> ExpertMesh:
        """The same for a program that is itself mapped over these axes, those of the rows."""
        return self if self.mesh is None else replace(self, row_axes=(), outer=axes)


class ExpertMatrices(nn.Module):
    """One matrix an expert, `[E, I, O]`."""

    shape: tuple[int, int, int]
    axes: tuple[str | None, ...]
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self) -> Matrices:
        kernel: Any = self.param(
            "kernel",
            nn.with_logical_partitioning(matrix_init(self.param_dtype), self.axes),
            self.shape,
            self.param_dtype,
        )
        out: Matrices = {"kernel": kernel}
        if is_int8(self.param_dtype):
            ones = nn.with_logical_partitioning(nn.initializers.ones, (self.axes[0], self.axes[2]))
            scale: Any = self.param("scale", ones, (self.shape[0], self.shape[2]), jnp.float32)
            out["scale"] = scale
        if self.has_variable("lora", "a"):
            out |= {name: jnp.asarray(self.get_variable("lora", name), self.dtype) for name in ("a", "b")}
        return out


class Experts(nn.Module):
    """The mixture in place of a layer's feed-forward: shares by a softmax over all experts, in fp32."""

    config: ModelConfig
    dtype: Any
    param_dtype: Any
    on: ExpertMesh | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        inner, outer = (c.n_experts, c.d_model, c.d_ff), (c.n_experts, c.d_ff, c.d_model)
        router: Any = self.param(
            "router",
            nn.with_logical_partitioning(nn.initializers.normal(0.02), ("embed", None)),
            (c.d_model, c.n_experts),
            scale_free(self.param_dtype),
        )
        matrices = {
            "gate": ExpertMatrices(inner, ("expert", "embed", None), name="gate", **kinds)(),
            "up": ExpertMatrices(inner, ("expert", "embed", None), name="up", **kinds)(),
            "down": ExpertMatrices(outer, ("expert", None, "embed"), name="down", **kinds)(),
        }
        on = self.on or ExpertMesh()
        local = functools.partial(mixture, c, self.dtype, on)
        if on.mesh is None:
            return local(x, router, matrices)
        rows, split = PartitionSpec(on.row_axes or None), PartitionSpec(on.expert_axes or None)
        return on_each_device(local, on.mesh, (rows, PartitionSpec(), split), rows, outer=on.outer)(x, router, matrices)


def mixture(
    config: ModelConfig, dtype: Any, on: ExpertMesh, x: jax.Array, router: jax.Array, matrices: dict[str, Matrices]
) -> jax.Array:
    """`[B, L, D]` of the states `x` of one device, summed over the devices that hold E / n experts each."""
    k, tokens = config.experts_per_token, x.reshape(-1, x.shape[-1])
    exact = jax.lax.Precision.HIGHEST
    scores = jnp.matmul(tokens.astype(jnp.float32), router.astype(jnp.float32), precision=exact)
    shares, chosen = jax.lax.top_k(jax.nn.softmax(scores, axis=-1), k)
    if config.normalized_shares:
        shares = shares / jnp.sum(shares, axis=-1, keepdims=True)

    held, n_rows = matrices["up"]["kernel"].shape[0], chosen.size
    padding = -n_rows % _tile(n_rows) if on.by_kernel else 0
    expert = chosen.reshape(-1) - (jax.lax.axis_index(on.expert_axes) * held if on.expert_axes else 0)
    mine = (expert >= 0) & (expert < held)
    # what others hold, and the padding, come last as one more group, that nothing multiplies
    expert = jnp.pad(jnp.where(mine, expert, held), (0, padding), constant_values=held)
    order = jnp.argsort(expert, stable=True)
    back = jnp.argsort(order)
    sizes = jnp.sum(expert[:, None] == jnp.arange(held + 1), axis=0, dtype=jnp.int32)
    of_row = jnp.minimum(expert[order], held - 1)

    def multiply(rows: jax.Array, matrix: jax.Array) -> jax.Array:
        if on.by_kernel:
            return _grouped(rows, matrix, sizes, on.interpret)
        return jax.lax.ragged_dot(rows, matrix, sizes[:held])

    def product(rows: jax.Array, name: str) -> jax.Array:
        parts = matrices[name]
        y = multiply(rows, parts["kernel"].astype(dtype))
        if "a" in parts:
            y = y + multiply(multiply(rows, parts["a"]), parts["b"])
        return (y * parts["scale"][of_row]).astype(dtype) if "scale" in parts else y

    rows = _permuted(jnp.pad(jnp.repeat(tokens.astype(dtype), k, axis=0), ((0, padding), (0, 0))), order, back)
    act = activated(product(rows, "gate"), config.activation)
    out = _permuted(product(act * product(rows, "up"), "down"), back, order)[:n_rows].reshape(-1, k, x.shape[-1])
    # what no group has is not computed, and may be anything
    out = jnp.where(mine.reshape(-1, k, 1), out.astype(jnp.float32), 0.0)
    y = jnp.sum(out * shares[..., None], axis=1).astype(dtype)
    return (jax.lax.psum(y, on.expert_axes) if on.expert_axes else y).reshape(x.shape)


@jax.custom_vjp
def _permuted(x: jax.Array, order: jax.Array, back: jax.Array) -> jax.Array:
    """`x[order]`, whose gradient is taken by the inverse `back`: a scatter would go row by row."""
    return x[order]


_permuted.defvjp(lambda x, order, back: (x[order], back), lambda back, given: (given[back], None, None))


def _tile(size: int) -> int:
    """Rows of a tile."""
    return min(_ROWS, -(-size // _LANES) * _LANES)


def _tiling(rows: jax.Array, inputs: int, outputs: int) -> tuple[int, int, int]:
    return _tile(rows.shape[0]), min(inputs, _WIDTH), min(outputs, _WIDTH)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _grouped(rows: jax.Array, matrices: jax.Array, sizes: jax.Array, interpret: bool) -> jax.Array:
    """`[N, O]`: rows `[N, I]`, group by group of `sizes [E + 1]`, by the matrices `[E, I, O]`; zeros
    for the last group."""
    # imported here: Pallas takes 0.3 s, and only a TPU needs it
    from jax.experimental.pallas.ops.tpu.megablox.gmm import gmm

    tiling = _tiling(rows, *matrices.shape[1:])
    out: jax.Array = gmm(rows, matrices, sizes, rows.dtype, tiling, interpret=interpret)
    return out


def _grouped_forward(
    rows: jax.Array, matrices: jax.Array, sizes: jax.Array, interpret: bool
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _grouped(rows, matrices, sizes, interpret), (rows, matrices, sizes)


def _grouped_backward(
    interpret: bool, kept: tuple[jax.Array, ...], given: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    from jax.experimental.pallas.ops.tpu.megablox.gmm import gmm, tgmm

    rows, matrices, sizes = kept
    held, inputs, outputs = matrices.shape
    by_rows = gmm(
        given, matrices, sizes, rows.dtype, _tiling(rows, outputs, inputs), transpose_rhs=True, interpret=interpret
    )
    by_matrices = tgmm(
        rows.T,
        given,
        sizes,
        matrices.dtype,
        _tiling(rows, inputs, outputs),
        num_actual_groups=held,
        interpret=interpret,
    )
    return by_rows, by_matrices, None


_grouped.defvjp(_grouped_forward, _grouped_backward)
