"""FLOPs of matrix products as HLO writes them: `dot`, and `convolution`, which is what XLA for TPU makes of a dot."""

from __future__ import annotations

import functools
import math
import re

import numpy as np

from selfevo_jax.plan.hlo import Computation, Instruction


def product_flops(computation: Computation, i: Instruction) -> int:
    """Two FLOPs a multiplication and addition of a `dot` or `convolution`; 0 for other instructions."""
    if i.opcode == "dot":
        return _dot(computation, i)
    if i.opcode == "convolution":
        return _convolution(computation, i)
    return 0


def _dims(text: str | None) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text or ""))


def _dot(computation: Computation, i: Instruction) -> int:
    left = computation[i.operands[0]].arrays[0]
    contracted = math.prod(left.dims[d] for d in _dims(i.attribute("lhs_contracting_dims")))
    return 2 * i.arrays[0].size * contracted


def _convolution(computation: Computation, i: Instruction) -> int:
    """Multiplications of real elements alone: those with padding, or with the holes of a dilated input, count nothing.

    XLA writes the batch dimensions of a dot as spatial ones, with windows that meet just one real element.
    """
    left, right = (computation[name].arrays[0] for name in i.operands[:2])
    out = i.arrays[0]
    labels = re.fullmatch(r"(\w+)_(\w+)->(\w+)", i.attribute("dim_labels") or "")
    if labels is None:
        return 0
    of_left, of_right, of_out = labels.groups()
    window = _window(i.attribute("window") or "", len(of_out) - 2)
    pairs = 1
    for n, (size, stride, low, left_dilation, right_dilation) in enumerate(window):
        label = str(n)
        pairs *= _meetings(
            left.dims[of_left.index(label)],
            right.dims[of_right.index(label)] if size is None else size,
            out.dims[of_out.index(label)],
            stride,
            low,
            left_dilation,
            right_dilation,
        )
    batch, features = out.dims[of_out.index("b")], out.dims[of_out.index("f")]
    # the kernel's input features are those of one feature group, the output's batch that of one batch group
    return 2 * batch * features * right.dims[of_right.index("i")] * pairs


def _window(text: str, dims: int) -> list[tuple[int | None, int, int, int, int]]:
    """(size, stride, low padding, input dilation, window dilation) of each spatial dimension."""
    fields = dict(part.split("=", 1) for part in text.strip("{}").split() if "=" in part)

    def values(name: str, default: int) -> list[int]:
        # padding reads `low_high`: the low one decides which positions meet which
        found = [int(n.split("_")[0]) for n in fields[name].split("x")] if name in fields else []
        return found or [default] * dims

    sizes: list[int | None] = list(values("size", 0)) if "size" in fields else [None] * dims
    rest = [values("stride", 1), values("pad", 0), values("lhs_dilate", 1), values("rhs_dilate", 1)]
    return list(zip(sizes, *rest, strict=True))


@functools.lru_cache(maxsize=1 << 12)
def _meetings(
    size: int, window: int, outputs: int, stride: int, low: int, left_dilation: int, right_dilation: int
) -> int:
    """Pairs (output, window position) of one spatial dimension that read a real element of the input."""
    if stride == 1 and low == 0 and left_dilation == right_dilation == 1 and size == outputs + window - 1:
        return outputs * window
    found, starts = 0, np.arange(outputs, dtype=np.int64) * stride - low
    for k in range(window):
        at = starts + k * right_dilation
        found += int(np.count_nonzero((at >= 0) & (at % left_dilation == 0) & (at // left_dilation < size)))
    return found
