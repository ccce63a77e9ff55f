"""FLOPs and HBM bytes of the kernels that our programs call, from the shapes in the call."""

from __future__ import annotations

import math

from selfevo_jax.plan.accounting import Kernel, KernelCost, KernelRule
from selfevo_jax.plan.hlo import Array

_MATRIX_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4, "fused": 5}
"""Products of queries x positions x head_dim in each phase: scores and output forward; scores again, their gradient and
the gradient of queries; or of keys and values; all in one."""


def cost_of_kernels(context: float | None = None, seen: float = 1.0, experts: int = 0) -> KernelRule:
    """The cost of jax's splash and paged attention kernels, and of its grouped products.

    Args:
      context: positions that a query of paged attention attends to; None reads all that a slot can hold.
      seen: share of a splash kernel's score blocks that its mask lets through; the others are not computed.
      experts: of the model; tokens are taken to be spread over them evenly.
    """

    def cost(kernel: Kernel) -> KernelCost | None:
        if kernel.name.startswith("splash_"):
            return _splash(kernel, seen)
        if kernel.name.startswith("paged_attention"):
            return _paged(kernel, context)
        if experts and kernel.name.startswith(("gmm", "tgmm")):
            return _grouped(kernel, experts)
        return None

    return cost


def causal_share(length: int, window: int | None = None, block: int = 512) -> float:
    """The share of blocks that a query of theirs sees: on or below the diagonal, and within the window. The others are
    not computed."""
    block = min(block, length)
    blocks = max(1, length // block)
    reach = blocks if window is None else -(-(window - 1) // block) + 1
    return sum(min(row + 1, reach) for row in range(blocks)) / blocks**2


def _states(arrays: tuple[Array, ...]) -> list[Array]:
    """The queries, keys, values and gradients among the operands: floating-point, three dimensions or more."""
    return [a for a in arrays if a.dtype in ("bf16", "f32", "f16") and len(a.dims) >= 3]


def _moved(kernel: Kernel) -> float:
    return sum(a.hbm for a in kernel.operands + kernel.results)


def _splash(kernel: Kernel, seen: float) -> KernelCost | None:
    states = _states(kernel.operands)
    phase = next((p for p in ("fwd", "dkv", "dq") if f"_{p}" in kernel.name), None)
    if phase is None or len(states) < 2:
        return None
    q, k = states[:2]
    if phase == "dkv" and len(_states(kernel.results)) > 2:
        phase = "fused"  # gives the gradient of queries too
    scores = math.prod(q.dims[:-1]) * k.dims[-2] * q.dims[-1]
    return KernelCost(2.0 * _MATRIX_PRODUCTS[phase] * scores * seen, _moved(kernel))


def _paged(kernel: Kernel, context: float | None) -> KernelCost | None:
    states = _states(kernel.operands)
    if len(states) < 3:
        return None
    q, k = states[:2]
    held = k.size / k.dims[-1] / q.dims[0]  # positions of one sequence
    read = held if context is None else min(context, held)
    queries = q.size / q.dims[-1]
    cache = sum(a.hbm for a in states[1:3]) * read / held
    return KernelCost(4.0 * queries * read * q.dims[-1], _moved(kernel) - sum(a.hbm for a in states[1:3]) + cache)


def _grouped(kernel: Kernel, experts: int) -> KernelCost | None:
    """Rows `[N, I]` by matrices `[E, I, O]` of this device (`gmm`), or the gradient `[E, I, O]` of these (`tgmm`)."""
    matrices = next((a for a in kernel.operands + kernel.results if len(a.dims) == 3), None)
    rows = [a for a in kernel.operands if len(a.dims) == 2 and a.dtype in ("bf16", "f32")]
    if matrices is None or not rows:
        return None
    # of `tgmm` the last one: the first lies on its side
    multiplied = rows[-1].dims[0] * matrices.dims[0] / experts
    return KernelCost(2.0 * multiplied * matrices.dims[1] * matrices.dims[2], _moved(kernel))
