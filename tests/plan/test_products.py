"""FLOPs of convolutions, against the sums that they compute: with ones in both factors each output counts its pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from selfevo_jax.plan.hlo import parse
from selfevo_jax.plan.products import product_flops

HLO = """HloModule one

ENTRY %main (x: f32[{left}], k: f32[{right}]) -> f32[{out}] {{
  %x = f32[{left}] parameter(0)
  %k = f32[{right}] parameter(1)
  ROOT %c = f32[{out}] convolution(%x, %k), window={{{window}}}, dim_labels={labels}{groups}
}}
"""


def counted(left, right, out, window, labels, groups=""):
    shape = {name: ",".join(map(str, dims)) for name, dims in (("left", left), ("right", right), ("out", out))}
    module = parse(HLO.format(**shape, window=window, labels=labels, groups=groups))
    main = module.computations["main"]
    return product_flops(main, main["c"])


@pytest.mark.parametrize(
    ("stride", "pad", "left_dilation", "right_dilation", "feature_groups", "batch_groups"),
    [
        ((1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1), 1, 1),
        ((2, 1), ((1, 2), (3, 0)), (1, 1), (2, 1), 1, 1),
        ((1, 3), ((2, 2), (1, 1)), (3, 2), (1, 2), 1, 1),
        ((1, 1), ((0, 0), (1, 0)), (1, 1), (1, 1), 2, 1),
        ((1, 2), ((1, 1), (0, 0)), (2, 1), (1, 1), 1, 2),
    ],
)
def test_products_with_padding_and_holes_count_nothing(
    stride, pad, left_dilation, right_dilation, feature_groups, batch_groups
):
    left, right = (4, 5, 7, 6), (3, 2, 6 // feature_groups, 8)
    x, k = jnp.ones(left), jnp.ones(right)
    out = jax.lax.conv_general_dilated(
        x,
        k,
        stride,
        pad,
        left_dilation,
        right_dilation,
        ("NHWC", "HWIO", "NHWC"),
        feature_groups,
        batch_groups,
    )
    joined = {
        "size": right[:2],
        "stride": stride,
        "lhs_dilate": left_dilation,
        "rhs_dilate": right_dilation,
        "pad": [f"{low}_{high}" for low, high in pad],
    }
    window = " ".join(f"{name}={'x'.join(map(str, values))}" for name, values in joined.items())
    groups = f", feature_group_count={feature_groups}" if feature_groups > 1 else ""
    groups += f", batch_group_count={batch_groups}" if batch_groups > 1 else ""
    assert counted(left, right, out.shape, window, "b01f_01io->b01f", groups) == 2 * int(np.sum(np.asarray(out)))


@pytest.mark.parametrize(
    ("left", "right", "out", "window", "labels", "dot"),
    [
        # as XLA for TPU writes dots: plain, batched over the output, over dilated windows, heads as padded windows
        ((256, 512), (512, 128), (256, 128), "", "bf_io->bf", 256 * 512 * 128),
        ((512, 256), (512, 128), (256, 128), "", "fb_io->bf", 256 * 512 * 128),
        ((32, 256, 16), (16, 512, 1), (32, 256, 512), "size=1", "0bf_io0->0bf", 32 * 256 * 16 * 512),
        (
            (2, 2, 512, 64),
            (2, 2, 64, 256),
            (2, 2, 512, 256),
            "size=2x2 stride=1x1 lhs_dilate=2x2",
            "01bf_01io->01bf",
            4 * 512 * 64 * 256,
        ),
        (
            (2, 256, 16, 1),
            (4, 64, 16, 2),
            (2, 256, 4, 64),
            "size=2x4 pad=1_0x3_3 rhs_reversal=0x1",
            "0bf1_1oi0->0b1f",
            0,
        ),
    ],
)
def test_dots_in_the_clothes_of_a_convolution(left, right, out, window, labels, dot):
    found = counted(left, right, out, window, labels)
    if dot:
        assert found == 2 * dot
    else:
        # two batches of one window position each, of four heads of 64
        assert found == 2 * (256 * 64 * 16) * 4 * 3
