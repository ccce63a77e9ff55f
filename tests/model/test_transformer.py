"""The decoder against itself: cached, ragged, packed and sharded runs give the plain run's logits."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from selfevo_jax.model import (
    PRESETS,
    ModelConfig,
    Transformer,
    abstract_params,
    init_cache,
    init_params,
    param_count,
    quantize_params,
    stack_layers,
)
from selfevo_jax.model.stack import cached_logits
from selfevo_jax.sharding import TRAIN_RULES, make_mesh

CONFIG = PRESETS["tiny"]
WINDOWED = ModelConfig(64, 32, 2, 4, 2, 8, 64, sliding_window=4, qkv_bias=True, qk_norm=True, tie_embeddings=False)


def positions(batch: int, length: int) -> np.ndarray:
    return np.broadcast_to(np.arange(length), (batch, length))


def some_tokens(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 64, (batch, length))


@functools.cache
def apply_of(config: ModelConfig, skips: bool = False) -> Callable:
    """The model as one function, whose programs the tests share."""
    return jax.jit(Transformer(config, skips=skips).apply)


@functools.cache
def case_of(config: ModelConfig) -> tuple[dict, np.ndarray, np.ndarray]:
    """Parameters, tokens [2, 16] and their logits without a cache."""
    params, tokens = random_params(config), some_tokens(2, 16)
    return params, tokens, np.asarray(apply_of(config)({"params": params}, tokens, positions(2, 16))[0])


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["tiny", "windowed"])
def test_cached_logits_equal_uncached_for_ragged_rows(config: ModelConfig) -> None:
    (params, tokens, whole), apply = case_of(config), apply_of(config)
    lengths = np.array([5, 8])
    cache = init_cache(config, 2, 16)
    grid = np.arange(8)[None]
    where = np.where(grid < lengths[:, None], grid, 16)  # padding is written nowhere
    _, cache = apply({"params": params}, tokens[:, :8], where, cache=cache)
    for step in range(4):
        at = (lengths + step)[:, None]
        logits, cache = apply({"params": params}, np.take_along_axis(tokens, at, 1), at, cache=cache)
        for row in range(2):
            np.testing.assert_allclose(logits[row, 0], whole[row, lengths[row] + step], atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["tiny", "windowed"])
@pytest.mark.parametrize("skips", [False, True], ids=["reads all parts", "skips what is out of reach"])
def test_rows_of_a_cache_in_parts_have_the_logits_of_one_in_one_piece(config: ModelConfig, skips: bool) -> None:
    (params, tokens, whole), apply = case_of(config), apply_of(config, skips)
    cache = init_cache(config, 5, (4, 4, 8))
    slots = np.array([3, 0])
    for start, end in ((0, 3), (3, 4), (4, 7), (7, 10), (10, 13), (13, 16)):  # within a part, over its end, one by one
        given = (tokens[:, start:end], positions(2, 16)[:, start:end])
        logits, cache = apply({"params": params}, *given, cache=cache, slots=slots)
        np.testing.assert_allclose(logits, whole[:, start:end], atol=1e-5)
    untouched = [np.abs(np.asarray(leaf)[[1, 2, 4]]).max() for leaf in jax.tree.leaves(cache)]
    assert max(untouched) == 0


def test_a_scan_over_layers_of_two_kinds_in_turn_has_the_logits_of_one_after_the_other() -> None:
    config = dataclasses.replace(WINDOWED, n_layers=4, local_layers=(True, False) * 2)
    params, tokens, whole = case_of(config)
    apply = jax.jit(functools.partial(cached_logits, Transformer(config)))
    params, slots = stack_layers(params), np.array([3, 0])
    cache = init_cache(config, 5, (4, 4, 8), stacked=True)
    given = (tokens[:, :7], positions(2, 16)[:, :7])
    logits, cache = apply(params, *given, cache=cache, slots=slots)
    np.testing.assert_allclose(logits, whole[:, :7], atol=1e-5)
    where = np.full((5, 2), 16)  # at rest
    where[slots] = [7, 8]
    asked = np.zeros((5, 2), int)
    asked[slots] = tokens[:, 7:9]
    logits, cache = apply(params, asked, where, cache=cache)
    np.testing.assert_allclose(logits[slots], whole[:, 7:9], atol=1e-5)
    assert max(np.abs(np.asarray(leaf)[[1, 2, 4]]).max() for leaf in jax.tree.leaves(cache)) == 0


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("param_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("rows", [2, 80])
def test_logits_are_summed_and_given_in_fp32_whatever_the_head(tied: bool, param_dtype: str, rows: int) -> None:
    config = ModelConfig(512, 32, 1, 2, 2, 16, 32, max_position=64, tie_embeddings=tied)
    declared = abstract_params(config, param_dtype)
    params = random_params(config)
    if param_dtype == "int8":
        params = jax.jit(functools.partial(quantize_params, declared=declared))(params)
    else:
        params = jax.tree.map(lambda x: np.asarray(x).astype(jnp.bfloat16), params)
    model = Transformer(config, dtype=jnp.bfloat16, param_dtype=jnp.dtype(param_dtype))
    states = np.random.default_rng(1).normal(size=(rows, 32)).astype(jnp.bfloat16)
    unembed = jax.jit(lambda p, x: model.apply({"params": p}, x, method=Transformer.unembed))
    logits = np.asarray(unembed(params, states))
    assert logits.dtype == np.float32
    if tied:
        table, scale = np.asarray(params["embedding"], np.float64).T, params.get("embedding_scale", 1.0)
    else:
        table, scale = np.asarray(params["head"]["kernel"], np.float64), params["head"].get("scale", 1.0)
    reference = np.asarray(states, np.float64) @ table * np.asarray(scale, np.float64)
    np.testing.assert_allclose(logits, reference, rtol=1e-5, atol=1e-5 * np.abs(reference).max())
    assert (logits != logits.astype(jnp.bfloat16)).mean() > 0.9
    two = np.sort(logits, axis=1)[:, -2:]
    assert (two[:, 0] < two[:, 1]).all()


def test_rolling_back_is_going_on_from_a_smaller_position() -> None:
    (params, first, _), apply = case_of(CONFIG), apply_of(CONFIG)
    second = first.copy()
    second[:, 8:] = 7
    _, cache = apply({"params": params}, first[:, :8], positions(2, 8), cache=init_cache(CONFIG, 2, 16))
    _, cache = apply({"params": params}, first[:, 8:], positions(2, 16)[:, 8:], cache=cache)
    forked, _ = apply({"params": params}, second[:, 8:], positions(2, 16)[:, 8:], cache=cache)
    whole, _ = apply({"params": params}, second, positions(2, 16))
    np.testing.assert_allclose(forked, whole[:, 8:], atol=1e-5)


def test_packed_sequences_do_not_see_each_other() -> None:
    (params, tokens, _), apply = case_of(CONFIG), apply_of(CONFIG)
    segments = np.array([[1] * 7 + [2] * 9] * 2)
    where = np.array([[*range(7), *range(9)]] * 2)
    packed, _ = apply({"params": params}, tokens, where, segment_ids=segments)
    second = np.roll(tokens, -7, axis=1)  # what comes after it is seen by nothing before
    alone, _ = apply({"params": params}, second, positions(2, 16))
    np.testing.assert_allclose(packed[:, 7:], alone[:, :9], atol=1e-5)


@pytest.fixture(scope="module")
def drawn() -> dict:
    return init_params(CONFIG, jax.random.key(0))


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)])
def test_logits_do_not_depend_on_the_mesh(drawn: dict, shape: tuple[int, int, int]) -> None:
    tokens, apply = some_tokens(2, 16), apply_of(CONFIG)
    plain, _ = apply({"params": drawn}, tokens, positions(2, 16))
    params = init_params(CONFIG, jax.random.key(0), make_mesh(*shape), TRAIN_RULES)
    sharded, _ = apply({"params": params}, tokens, positions(2, 16))
    np.testing.assert_allclose(sharded, plain, atol=1e-5)


def test_a_model_of_many_layers_has_the_parameters_that_it_declares() -> None:
    config = dataclasses.replace(WINDOWED, n_layers=3)
    tokens = jnp.zeros((1, 1), jnp.int32)
    for dtype in (jnp.float32, jnp.int8):
        model = Transformer(config, param_dtype=dtype)
        own = jax.eval_shape(lambda m=model: nn.unbox(m.init(jax.random.key(0), tokens, tokens)["params"]))
        assert abstract_params(config, dtype) == own


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("smollm2-135m", 134_515_008),
        ("llama-2-7b", 6_738_415_616),
        ("llama-3.1-8b", 8_030_261_248),
        ("mistral-7b", 7_241_732_096),
        ("qwen-2.5-0.5b", 494_032_768),
        ("qwen-3-0.6b", 596_049_920),
        ("qwen-3-30b-a3b", 30_532_122_624),
        ("gemma-2-9b", 9_241_705_984),
        ("gemma-3-4b", 3_880_263_168),
    ],
)
def test_presets_have_the_published_number_of_parameters(name: str, count: int) -> None:
    assert param_count(PRESETS[name]) == count
