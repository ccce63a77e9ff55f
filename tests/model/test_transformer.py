"""The decoder against itself: cached, ragged, packed and sharded runs give the plain run's logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from selfevo_jax.model import (
    PRESETS,
    ModelConfig,
    Transformer,
    abstract_params,
    init_cache,
    init_params,
    param_count,
    quantize_params,
)
from selfevo_jax.sharding import TRAIN_RULES, make_mesh

CONFIG = PRESETS["tiny"]
WINDOWED = ModelConfig(64, 32, 2, 4, 2, 8, 64, sliding_window=4, qkv_bias=True, qk_norm=True, tie_embeddings=False)


def positions(batch: int, length: int) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(length), (batch, length))


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["tiny", "windowed"])
def test_cached_logits_equal_uncached_for_ragged_rows(config: ModelConfig) -> None:
    params = init_params(config, jax.random.key(0))
    apply = jax.jit(Transformer(config).apply)
    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, config.vocab_size)
    whole, _ = apply({"params": params}, tokens, positions(2, 12))
    lengths = np.array([5, 8])
    cache = init_cache(config, 2, 16)
    grid = np.arange(8)[None]
    where = jnp.asarray(np.where(grid < lengths[:, None], grid, 16))  # padding is written nowhere
    _, cache = apply({"params": params}, tokens[:, :8], where, cache=cache)
    for step in range(4):
        at = jnp.asarray(lengths + step)[:, None]
        logits, cache = apply({"params": params}, jnp.take_along_axis(tokens, at, 1), at, cache=cache)
        for row in range(2):
            np.testing.assert_allclose(logits[row, 0], whole[row, lengths[row] + step], atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["tiny", "windowed"])
@pytest.mark.parametrize("skips", [False, True], ids=["reads all parts", "skips what is out of reach"])
def test_rows_of_a_cache_in_parts_have_the_logits_of_one_in_one_piece(config: ModelConfig, skips: bool) -> None:
    params = init_params(config, jax.random.key(0))
    apply = jax.jit(Transformer(config, skips=skips).apply)
    tokens = jax.random.randint(jax.random.key(1), (2, 16), 0, config.vocab_size)
    whole, _ = apply({"params": params}, tokens, positions(2, 16))
    cache = init_cache(config, 5, (4, 4, 8))
    slots = jnp.array([3, 0])
    for start, end in ((0, 3), (3, 7), (7, 8), (8, 12), (12, 13), (13, 16)):  # within a part, over its end, one by one
        given = (tokens[:, start:end], positions(2, 16)[:, start:end])
        logits, cache = apply({"params": params}, *given, cache=cache, slots=slots)
        np.testing.assert_allclose(logits, whole[:, start:end], atol=1e-5)
    untouched = [np.abs(leaf[jnp.array([1, 2, 4])]).max() for leaf in jax.tree.leaves(cache)]
    assert max(untouched) == 0


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("param_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("rows", [2, 80])
def test_logits_are_summed_and_given_in_fp32_whatever_the_head(tied: bool, param_dtype: str, rows: int) -> None:
    config = ModelConfig(512, 32, 1, 2, 2, 16, 32, max_position=64, tie_embeddings=tied)
    declared = abstract_params(config, param_dtype)
    params = init_params(config, jax.random.key(0))
    params = quantize_params(params, declared) if param_dtype == "int8" else jax.tree.map(jnp.bfloat16, params)
    model = Transformer(config, dtype=jnp.bfloat16, param_dtype=jnp.dtype(param_dtype))
    states = jax.random.normal(jax.random.key(1), (rows, 32), jnp.bfloat16)
    logits = jax.jit(lambda p, x: model.apply({"params": p}, x, method=Transformer.unembed))(params, states)
    assert logits.dtype == jnp.float32
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
    params = init_params(CONFIG, jax.random.key(0))
    apply = jax.jit(Transformer(CONFIG).apply)
    first = jax.random.randint(jax.random.key(1), (1, 10), 0, CONFIG.vocab_size)
    second = first.at[:, 6:].set(7)
    _, cache = apply({"params": params}, first, positions(1, 10), cache=init_cache(CONFIG, 1, 16))
    forked, _ = apply({"params": params}, second[:, 6:], positions(1, 10)[:, 6:], cache=cache)
    whole, _ = apply({"params": params}, second, positions(1, 10))
    np.testing.assert_allclose(forked, whole[:, 6:], atol=1e-5)


def test_packed_sequences_do_not_see_each_other() -> None:
    params = init_params(CONFIG, jax.random.key(0))
    apply = jax.jit(Transformer(CONFIG).apply)
    tokens = jax.random.randint(jax.random.key(1), (1, 9), 0, CONFIG.vocab_size)
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 2, 2, 2]])
    where = jnp.array([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    packed, _ = apply({"params": params}, tokens, where, segment_ids=segments)
    alone, _ = apply({"params": params}, tokens[:, 4:], positions(1, 5))
    np.testing.assert_allclose(packed[:, 4:], alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)])
def test_logits_do_not_depend_on_the_mesh(shape: tuple[int, int, int]) -> None:
    tokens = jax.random.randint(jax.random.key(1), (2, 6), 0, CONFIG.vocab_size)
    plain, _ = jax.jit(Transformer(CONFIG).apply)(
        {"params": init_params(CONFIG, jax.random.key(0))}, tokens, positions(2, 6)
    )
    params = init_params(CONFIG, jax.random.key(0), make_mesh(*shape), TRAIN_RULES)
    sharded, _ = jax.jit(Transformer(CONFIG).apply)({"params": params}, tokens, positions(2, 6))
    np.testing.assert_allclose(sharded, plain, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("smollm2-135m", 134_515_008),
        ("llama-2-7b", 6_738_415_616),
        ("llama-3.1-8b", 8_030_261_248),
        ("mistral-7b", 7_241_732_096),
        ("qwen-2.5-0.5b", 494_032_768),
        ("qwen-3-0.6b", 596_049_920),
    ],
)
def test_presets_have_the_published_number_of_parameters(name: str, count: int) -> None:
    assert param_count(PRESETS[name]) == count
