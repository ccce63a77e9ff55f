"""The kernels as functions of arrays. They have no gradients, and run on one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from selfevo_jax.native.build import library

PANEL = 32
"""Columns of a panel, and W of `product.c`."""
MOST_MATRICES = 4
"""Of one call of `products`."""
_MOST_PARTS, _MOST_GROUP, _MOST_DIM, _WIDTH = 8, 64, 512, 16
"""Limits of `attention.c`, and the widest vector in floats."""


def available() -> bool:
    """Whether this machine has the kernels; builds them when it is first asked."""
    return library() is not None


def fits(mesh: Mesh | None, *dtypes: Any) -> bool:
    """Whether the kernels are made for programs with these dtypes: on one device, a CPU, in float32."""
    platform, size = (jax.default_backend(), 1) if mesh is None else (mesh.devices.flat[0].platform, mesh.size)
    return platform == "cpu" and size == 1 and all(jnp.dtype(x) == jnp.float32 for x in dtypes)


def serves(mesh: Mesh | None, *dtypes: Any) -> bool:
    """Whether such programs can call them on this machine."""
    return fits(mesh, *dtypes) and available()


@jax.jit
def panels(matrix: jax.Array) -> jax.Array:
    """A matrix `[k, n]` as `products` reads it, `[ceil(n / PANEL), k, PANEL]`, filled up with zeros."""
    k, n = matrix.shape
    count = -(-n // PANEL)
    return jnp.pad(matrix, ((0, 0), (0, count * PANEL - n))).reshape(k, count, PANEL).swapaxes(0, 1)


def products(x: jax.Array, by: Sequence[jax.Array], columns: Sequence[int]) -> list[jax.Array]:
    """`x @ matrix`, f32 `[m, n]`, for each of at most MOST_MATRICES, of x f32 `[m, k]` and the panels of matrices
    `[k, n]`; `columns` are the n.

    What a row becomes depends on no other row.
    """
    wanted = [(jnp.dtype(jnp.float32), (-(-n // PANEL), x.shape[1], PANEL)) for n in columns]
    if x.dtype != jnp.float32 or [(one.dtype, one.shape) for one in by] != wanted or len(by) > MOST_MATRICES:
        held = ", ".join(f"{one.dtype}{one.shape}" for one in by)
        raise ValueError(f"x is {x.dtype}{x.shape} and the panels {held}, for {list(columns)} columns")
    results = [jax.ShapeDtypeStruct((x.shape[0], n), jnp.float32) for n in columns]
    made: list[jax.Array] = _call("product", results)(x, *by)
    return made


def attends(heads: int, kv_heads: int, head_dim: int, parts: int) -> bool:
    """Whether `attention` takes such heads, and a cache of so many parts."""
    return (
        parts <= _MOST_PARTS and heads // kv_heads <= _MOST_GROUP and head_dim <= _MOST_DIM and head_dim % _WIDTH == 0
    )


def attention(
    q: jax.Array,
    positions: jax.Array,
    parts: Sequence[tuple[jax.Array, jax.Array]],
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
) -> jax.Array:
    """Grouped-query attention of one query a row, f32 `[B, H, head_dim]`.

    Args:
      q: f32 `[B, H, head_dim]`.
      positions: i32 `[B]`: a row sees its cache up to there; past the end of the cache it sees nothing, which gives
        zeros.
      parts: k and v, f32 `[B, K, length, head_dim]`, of the first positions, the next ones, ...
      scale, softcap: of scores, see `model.attention.Scoring`.
      window: a row sees so many positions at most; None is all.
    """
    kept = [leaf for part in parts for leaf in part]
    if not attends(q.shape[1], kept[0].shape[1], q.shape[2], len(parts)):
        raise ValueError(f"no kernel takes q {q.shape} with {len(parts)} parts of {kept[0].shape}")
    if any(leaf.dtype != jnp.float32 for leaf in (q, *kept)):
        raise ValueError(f"the kernel takes float32, not {[leaf.dtype.name for leaf in (q, *kept)]}")
    call = _call("attention", jax.ShapeDtypeStruct(q.shape, jnp.float32))
    settings = {"scale": np.float32(scale), "softcap": np.float32(softcap or 0), "window": np.int64(window or 0)}
    return call(q, positions.astype(jnp.int32), *kept, **settings)


def _call(kernel: str, result: Any) -> Callable[..., Any]:
    found = library()
    if found is None:
        raise RuntimeError("this machine has no kernels in C (`available` tells)")
    return jax.ffi.ffi_call(found.target(kernel), result)
