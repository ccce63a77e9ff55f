"""From costs to seconds, model FLOPs and utilisation."""

import pytest
from plan_helpers import RATES

from selfevo_jax.model import PRESETS, ModelConfig, param_count
from selfevo_jax.plan.accounting import Collective, Kernel, Totals
from selfevo_jax.plan.chips import CHIPS, Topology
from selfevo_jax.plan.hlo import parse_arrays
from selfevo_jax.plan.kernels import causal_share, cost_of_kernels
from selfevo_jax.plan.roofline import Roofline, Span, forward_flops, multiplied_params, train_flops, utilisation


def costs(flops=0.0, hbm=0.0, ici=0.0, dcn=0.0):
    found = Totals(flops=flops, hbm_bytes=hbm)
    found.sent[Collective("all-gather", "fsdp", False, "forward")] = ici
    found.sent[Collective("all-reduce", "data", True, "backward")] = dcn
    return Roofline.of(found, RATES)


@pytest.mark.parametrize(
    ("given", "low", "high", "bound"),
    [
        ({"flops": 200e12, "hbm": 1e12, "ici": 50e9}, 2.0, 2.5, "compute"),
        ({"flops": 100e12, "hbm": 3e12, "ici": 50e9}, 3.0, 3.5, "memory"),
        ({"flops": 100e12, "hbm": 1e12, "ici": 400e9}, 4.0, 5.0, "communication"),
        ({"flops": 100e12, "ici": 100e9, "dcn": 10e9}, 3.0, 4.0, "communication"),
    ],
)
def test_time_goes_from_communication_hidden_to_communication_after_all_else(given, low, high, bound):
    found = costs(**given)
    assert (found.seconds.low, found.seconds.high) == pytest.approx((low, high))
    assert found.bound == bound


def test_utilisation_is_model_flops_over_peak_of_all_devices():
    found = utilisation(800e12, Span(2.0, 4.0), RATES, devices=8)
    assert (found.low, found.high) == pytest.approx((0.25, 0.5))


def test_model_flops_are_6n_and_attention_as_palm_counts_them():
    untied = ModelConfig(100, 16, 3, 4, 2, 8, 32, tie_embeddings=False)
    assert multiplied_params(untied) == param_count(untied) - 100 * 16
    expected = 50 * (6 * multiplied_params(untied) + 12 * 3 * 4 * 8 * 25)
    assert train_flops(untied, tokens=50, length=25) == expected
    adapted = 50 * (4 * multiplied_params(untied) + 12 * 3 * 4 * 8 * 25)
    assert train_flops(untied, tokens=50, length=25, frozen=True) == adapted
    assert multiplied_params(PRESETS["tiny"]) == param_count(PRESETS["tiny"])


def test_tokens_without_logits_leave_the_head_out():
    config = PRESETS["tiny"]
    all_of_them, one = forward_flops(config, 10, 0), forward_flops(config, 10, 0, predicted=1)
    assert all_of_them - one == 9 * 2 * config.vocab_size * config.d_model


@pytest.mark.parametrize(("name", "per_link"), [("v4", 50e9), ("v5e", 50e9), ("v5p", 100e9), ("v6e", 100e9)])
def test_links_carry_a_share_of_the_chips_bandwidth_in_each_direction(name, per_link):
    assert CHIPS[name].link_bytes == per_link


def test_a_device_that_is_half_a_chip_has_half_the_rates():
    whole = Topology("v4:1x1x1", CHIPS["v4"], (1, 1, 1), 1, ("core",)).rates
    half = Topology("v4:1x1x1", CHIPS["v4"], (1, 1, 1), 1, ("core 0", "core 1")).rates
    assert half.flops == whole.flops / 2
    assert half.hbm == whole.hbm / 2
    assert whole.ici_bytes == 2 * CHIPS["v4"].link_bytes


def kernel(name, operands, results):
    return Kernel(name, parse_arrays(operands), parse_arrays(results))


def test_splash_attention_counts_its_products_of_the_blocks_it_sees():
    q, k = "bf16[2,4,64,128]", "bf16[2,1,256,128]"
    cost = cost_of_kernels(seen=0.5)
    forward = cost(kernel("splash_mha_fwd_no_residuals", f"(s32[4], {q}, {k}, {k})", q))
    assert forward.flops == 0.5 * 2 * 2 * (2 * 4 * 64) * 256 * 128
    fused = cost(kernel("splash_mha_dkv_segmented_no_residuals", f"({q}, {k}, {k}, {q})", f"({q}, {k}, {k})"))
    assert fused.flops == 0.5 * 2 * 5 * (2 * 4 * 64) * 256 * 128
    apart = cost(kernel("splash_mha_dkv_no_residuals", f"({q}, {k}, {k}, {q})", f"({k}, {k})"))
    assert apart.flops == 0.5 * 2 * 4 * (2 * 4 * 64) * 256 * 128
    assert cost_of_kernels()(kernel("unknown", q, q)) is None


def test_paged_attention_reads_the_context_alone():
    q, pages = "bf16[32,4,128]", "bf16[1,512,256,128]"  # 32 sequences of 16 pages of 256 positions
    call = kernel("paged_attention", f"(s32[32], s32[32,16], {q}, {pages}, {pages})", q)
    small = 32 * 4 + 32 * 16 * 4 + 2 * 32 * 4 * 128 * 2
    found = cost_of_kernels(context=1000)(call)
    assert found.flops == 4 * 32 * 4 * 1000 * 128
    assert found.hbm_bytes == pytest.approx(small + 2 * 32 * 1000 * 128 * 2)
    whole = cost_of_kernels()(call)
    assert whole.hbm_bytes == pytest.approx(small + 2 * 32 * 4096 * 128 * 2)


def test_grouped_products_count_the_rows_that_this_devices_experts_have():
    rows, wide, matrices = "bf16[2048,256]", "bf16[2048,768]", "bf16[4,256,768]"
    cost, products = cost_of_kernels(experts=16), 2 * (2048 * 4 / 16) * 256 * 768
    assert cost(kernel("gmm", f"(s32[5], {rows}, {matrices})", wide)).flops == products
    assert cost(kernel("gmm", f"(s32[5], {wide}, {matrices})", rows)).flops == products  # the gradient of the rows
    assert cost(kernel("tgmm", f"(s32[5], bf16[256,2048], {wide})", matrices)).flops == products
    assert cost_of_kernels()(kernel("gmm", f"({rows}, {matrices})", wide)) is None


def test_causal_blocks():
    assert causal_share(512) == 1.0
    assert causal_share(2048) == (4 + 1) / (2 * 4)
    assert causal_share(2048, window=512) == (1 + 2 + 2 + 2) / 16  # its own block and the one before
    assert causal_share(2048, window=1) == 4 / 16
