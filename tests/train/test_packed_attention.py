"""Sequences given to cuDNN by offsets are those of the mask. No GPU is needed: its contract plays cuDNN's part."""

import functools
import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from train_helpers import assert_close

from selfevo_jax.model import ModelConfig, TrainAttention
from selfevo_jax.model.attention import Scoring, causal_mask
from selfevo_jax.model.packed_attention import Packing, packed_attention
from selfevo_jax.model.transformer import attend_masked
from selfevo_jax.sharding import TRAIN_RULES, make_mesh

MOST, LENGTH, SCORING = 4, 48, Scoring(0.3)


def by_contract(q, k, v, packing, window):
    """What cuDNN makes of the numbers that jax hands it: sequence s lies at `offsets[s]` of the flat array, and what
    belongs to none stays unwritten (NaN)."""
    given = (packing.lengths, packing.lengths, packing.offsets, packing.offsets, q, k)
    lengths, _, *offsets = (x.reshape(-1) for x in cudnn._fix_seqlen_offsets(*given))
    at, (heads, size) = jnp.arange(q.shape[0] * q.shape[1]), q.shape[2:]
    starts, key_starts = (x[: lengths.size] // (n * size) for x, n in zip(offsets, (heads, k.shape[2]), strict=True))
    places, key_places = at - starts[:, None], at - key_starts[:, None]
    mine, keys = (((x >= 0) & (x < lengths[:, None]))[:, :, None] for x in (places, key_places))
    back = places[:, :, None] - key_places[:, None]
    seen = (mine & keys.swapaxes(1, 2) & (back >= 0) & (back < (window or LENGTH))).any(0)
    flat = (x.reshape(at.size, -1, size) for x in (q, k, v))
    q_, k_, v_ = (jnp.repeat(x, heads // x.shape[1], axis=1) for x in flat)
    scores = jnp.where(seen, jnp.einsum("qhd,khd->hqk", q_, k_) * SCORING.scale, -jnp.inf)
    return jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), v_).reshape(q.shape)


@functools.cache
def both_ways(window):
    """Output and gradients of the plain path and of the packed one, which turns the sign where it takes the mask."""

    def compute(q, k, v, segments, by_out):
        def plain(*qkv):
            return attend_masked(causal_mask(segments, LENGTH, window), SCORING)(*qkv)[0]

        def packed(*qkv):
            told = functools.partial(by_contract, window=window)
            return packed_attention(*qkv, Packing.of(segments, MOST), lambda *qkv: -plain(*qkv), told)

        def results(attend):
            out, pull = jax.vjp(attend, q, k, v)
            return out, *pull(by_out)

        return results(plain), results(packed)

    return jax.jit(compute)


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(1, 30), max_size=6), min_size=3, max_size=3), st.sampled_from([None, 5]))
@example([[LENGTH], [], [9]], None)  # one sequence, padding alone, one sequence and padding
@example([[1, 1, 1, LENGTH - 3], [12, 12, 12, 12], [5, 5, 5]], 5)  # as many as fit, padding among them
@example([[LENGTH], [1, 1, 1, 1], [LENGTH]], None)  # one more than fits
def test_offsets_give_the_attention_of_the_mask_at_every_place_and_a_batch_that_they_do_not_hold_takes_it(rows, window):
    ids = [np.repeat(np.arange(1, len(sizes) + 1), sizes)[:LENGTH] for sizes in rows]
    segments = np.stack([np.pad(row, (0, LENGTH - len(row))) for row in ids]).astype(np.int32)
    rng = np.random.default_rng(0)
    q, (k, v) = (rng.normal(size=(*n, 3, LENGTH, h, 8)).astype(np.float32) for n, h in (((), 4), ((2,), 2)))
    by_out = rng.normal(size=q.shape).astype(np.float32)
    expected, found = both_ways(window)(q, k, v, segments, by_out)
    fits = all(1 + np.count_nonzero(np.diff(row)) <= MOST for row in segments)
    assert_close(found, expected if fits else jax.tree.map(jnp.negative, expected), relative=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 2)])
def test_cudnn_is_given_offsets_and_lengths_of_each_devices_rows_and_no_mask(shape, monkeypatch):
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91900)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)
    mesh = make_mesh(*shape, jax.devices()[: int(np.prod(shape))])
    kernel = TrainAttention("cudnn_packed", mesh, SCORING, ("data", "fsdp"), ("tensor",))

    def loss(q, k, v, segments):
        return kernel.within(segments, 40)(q, k, v)[0].astype(jnp.float32).sum()

    states = [jax.ShapeDtypeStruct((4, 128, heads, 64), jnp.bfloat16) for heads in (4, 2, 2)]
    traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(*states, jax.ShapeDtypeStruct((4, 128), jnp.int32))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    rows, heads = 4 // shape[0], 4 // shape[2]
    found = re.findall(
        r'custom_call @__cudnn\$(fmhaSoftmax(?:Backward)?)\(.*?backend_config = "(.*?)".*: \((.*?)\) ->', text
    )
    assert {name for name, *_ in found} == {"fmhaSoftmax", "fmhaSoftmaxBackward"}
    told = [f"tensor<{rows}x{n}xi32>" for n in (16, 16, 17, 17)]
    for name, config, operands in found:
        set_ = json.loads(config.replace("\\22", '"'))["cudnn_fmha_backend_config"]
        assert (set_["mask_type"], set_["max_seg_per_batch"], set_["sliding_window_length"]) == (
            "PADDING_CAUSAL",
            16,
            40,
        )
        *states, a, b, c, d = operands.split(", ")
        assert [a, b, c, d] == told
        assert states[:3] == [f"tensor<{rows}x128x{heads}x64xbf16>"] * 3
        assert len(states) == (3 if name == "fmhaSoftmax" else 6)


@pytest.mark.parametrize(("capability", "offered"), [("8.0", False), ("9.0", True), ("10.0", True), ("12.0", False)])
def test_offsets_are_offered_where_cudnn_takes_them_and_are_not_the_default(capability, offered):
    device = SimpleNamespace(platform="gpu", compute_capability=capability)
    mesh = SimpleNamespace(devices=np.array([device]), size=1, shape={"slice": 1, "data": 1, "fsdp": 1, "tensor": 1})
    shape = (ModelConfig(32, 16, 2, 4, 2, 8, 32), mesh, TRAIN_RULES, jnp.bfloat16, 256)
    assert [one.kernel for one in TrainAttention.choices(*shape)] == ["cudnn", "cudnn_packed"][: 1 + offered]
    assert TrainAttention.choose(*shape).kernel == "cudnn"
    assert TrainAttention.choose(*shape, "plain") is None
