"""int8 matrices and int8 caches: the rounding itself, and how little it moves the logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selfevo_jax.model import (
    ModelConfig,
    Transformer,
    abstract_params,
    init_cache,
    param_shardings,
    quantize,
    quantize_params,
)
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh

# biases, qk-norms and an untied head, so that each kind of parameter occurs
UNTIED = ModelConfig(64, 32, 2, 4, 2, 8, 64, qkv_bias=True, qk_norm=True, tie_embeddings=False)
TIED = ModelConfig(64, 32, 2, 4, 2, 8, 64)


def positions(batch: int, length: int) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(length), (batch, length))


def random_params(config: ModelConfig) -> dict:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.12 if len(x.shape) > 1 else rng.normal(size=x.shape)),
        abstract_params(config),
    )


def quantized(config: ModelConfig, params: dict) -> dict:
    return jax.jit(functools.partial(quantize_params, declared=abstract_params(config, jnp.int8)))(params)


def reference(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    scale = np.abs(x).max(axis, keepdims=True) / np.float32(127)
    steps = np.rint(x / np.where(scale > 0, scale, np.float32(1)))
    return np.clip(steps, -127, 127).astype(np.int8), scale.squeeze(axis)


@settings(max_examples=60)
@given(arrays(np.float32, (3, 8), elements=st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False)))
def test_values_differ_by_half_a_scale_at_most_also_at_zero_and_at_the_edge_of_float32(x: np.ndarray) -> None:
    values, scale = (np.asarray(part) for part in quantize(jnp.asarray(x), (1,)))
    assert values.dtype == np.int8
    assert np.isfinite(scale).all()
    wide = values.astype(np.float64) * scale[:, None]
    # one unit in the last place of the quotient beside the half step; below the least scale all is zero
    assert (np.abs(wide - x) <= scale[:, None] * 0.50001 + 127 * np.finfo(np.float32).tiny).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_values_and_scales_equal_numpys(axis: int) -> None:
    x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    x[3] = 0
    for ours, theirs in zip(quantize(jnp.asarray(x), (axis,)), reference(x, axis), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_number_that_is_not_finite_shows_in_the_scale() -> None:
    _, scale = quantize(jnp.asarray([[1.0, jnp.nan], [jnp.inf, 1.0], [1.0, 2.0]]), (1,))
    assert np.isfinite(scale).tolist() == [False, False, True]


@pytest.mark.parametrize("config", [UNTIED, TIED], ids=["untied", "tied"])
def test_quantized_parameters_are_those_that_the_decoder_declares(config: ModelConfig) -> None:
    declared = abstract_params(config, jnp.int8)
    made = quantized(config, random_params(config))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), made) == jax.tree.map(lambda x: (x.shape, x.dtype), declared)
    attention = made["layers_0"]["attention"]
    assert attention["q"]["scale"].shape == (4, 8)
    assert attention["o"]["scale"].shape == (32,)
    assert made["embedding_scale"].shape == (64,)
    assert made["final_norm"]["scale"].dtype == jnp.float32


@pytest.mark.parametrize("config", [UNTIED, TIED], ids=["untied", "tied"])
def test_logits_of_int8_matrices_are_those_of_the_matrices_they_stand_for(config: ModelConfig) -> None:
    params = random_params(config)
    small = quantized(config, params)

    def widened(node: dict, original: dict) -> dict:
        out = {}
        for name, leaf in original.items():
            if isinstance(leaf, dict):
                out[name] = widened(node[name], leaf)
            elif name == "kernel":
                out[name] = node[name].astype(jnp.float32) * node["scale"]
            elif name == "embedding":
                out[name] = node[name].astype(jnp.float32) * node["embedding_scale"][:, None]
            else:
                out[name] = leaf
        return out

    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, config.vocab_size)
    apply = jax.jit(Transformer(config).apply)
    wide, _ = apply({"params": jax.jit(widened)(small, params)}, tokens, positions(2, 12))
    got, _ = jax.jit(Transformer(config, param_dtype=jnp.int8).apply)({"params": small}, tokens, positions(2, 12))
    np.testing.assert_allclose(got, wide, atol=2e-5)
    plain, _ = apply({"params": params}, tokens, positions(2, 12))
    # a step of 1/127 of a channel's largest weight, over 2 layers: a few hundredths of the logits' own spread
    assert 0 < float(jnp.abs(got - plain).max()) < 0.1 * float(jnp.std(plain))


@pytest.fixture(scope="module")
def apply():
    return jax.jit(Transformer(UNTIED).apply)


def test_logits_with_an_int8_cache_stay_near_those_without(apply) -> None:
    params = random_params(UNTIED)
    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, UNTIED.vocab_size)
    plain, _ = apply({"params": params}, tokens, positions(2, 12))
    got, cache = apply({"params": params}, tokens, positions(2, 12), cache=init_cache(UNTIED, 2, 16, jnp.int8))
    assert 0 < float(jnp.abs(got - plain).max()) < 0.1 * float(jnp.std(plain))
    assert {x.dtype for x in (*cache.k, *cache.v)} == {jnp.dtype(jnp.int8)}
    assert cache.k_scale[0].shape == (2, 2, 16)
    assert float(jnp.abs(cache.k_scale[0][:, :, 12:]).max()) == 0  # nothing was written there


def test_extend_then_decode_in_int8_equals_one_extend(apply) -> None:
    params = random_params(UNTIED)
    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, UNTIED.vocab_size)
    whole, full = apply({"params": params}, tokens, positions(2, 12), cache=init_cache(UNTIED, 2, 16, jnp.int8))
    lengths = np.array([8, 10])
    grid = np.arange(12)[None]
    where = jnp.asarray(np.where(grid < lengths[:, None], grid, 16))  # padding is written nowhere
    cache = init_cache(UNTIED, 2, 16, jnp.int8)
    _, cache = apply({"params": params}, tokens, where, cache=cache)
    for step in range(2):
        at = jnp.asarray(lengths + step)[:, None]
        logits, cache = apply({"params": params}, jnp.take_along_axis(tokens, at, 1), at, cache=cache)
        for row in range(2):
            # a value on the edge of two steps may round either way: far less than all rounding together (0.1 above)
            np.testing.assert_allclose(
                logits[row, 0], whole[row, lengths[row] + step], atol=0.01 * float(jnp.std(whole))
            )
    # the same scales, but for the last place of float32, whatever came in one call
    np.testing.assert_allclose(cache.k_scale[1][0, :, :10], full.k_scale[1][0, :, :10], rtol=1e-5)


def test_a_zero_vector_in_the_cache_gives_no_nan(apply) -> None:
    params = random_params(UNTIED)
    for name in ("k", "v"):
        layer = params["layers_0"]["attention"][name]
        layer["kernel"], layer["bias"] = layer["kernel"] * 0, layer["bias"] * 0
    cache = init_cache(UNTIED, 1, 16, jnp.int8)
    logits, cache = apply({"params": params}, jnp.ones((1, 12), jnp.int32), positions(1, 12), cache=cache)
    assert float(jnp.abs(cache.v_scale[0]).max()) == 0
    assert bool(jnp.isfinite(logits).all())


def test_quantized_parameters_lie_on_a_mesh_and_give_the_same_logits() -> None:
    mesh = make_mesh(2, 2, 2)
    declared, layout = (
        abstract_params(UNTIED, jnp.int8),
        param_shardings(UNTIED, mesh, DECODE_RULES, jnp.int8),
    )
    plain = random_params(UNTIED)
    spread = jax.device_put(plain, param_shardings(UNTIED, mesh, TRAIN_RULES))
    to_int8 = jax.jit(lambda p: quantize_params(p, declared), out_shardings=layout)
    made, lone = to_int8(spread), quantized(UNTIED, plain)
    q = made["layers_0"]["attention"]["q"]
    assert q["kernel"].addressable_shards[0].data.shape == (32, 2, 8)  # 4 heads over tensor
    assert q["scale"].addressable_shards[0].data.shape == (2, 8)
    for on_mesh, alone in zip(jax.tree.leaves(made), jax.tree.leaves(lone), strict=True):
        np.testing.assert_array_equal(on_mesh, alone)
