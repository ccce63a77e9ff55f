"""The TPU's kernels in interpret mode against the plain path, and the rules that choose between them."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from selfevo_jax.model import ModelConfig, TpuAttention, Transformer, init_cache, stack_layers
from selfevo_jax.model.attention import Part, Scoring, attend, cache_mask
from selfevo_jax.model.stack import cached_logits
from selfevo_jax.sharding import DECODE_RULES, make_mesh

CAPPED, PLAIN = Scoring(0.2, 1.5), Scoring(128**-0.5)
CONFIG = ModelConfig(64, 64, 1, 6, 2, 64, 96)
INTERPRETED = TpuAttention(Scoring.of(CONFIG), interpret=True)


def random_case(batch, length, kv_heads, groups, capacity, head_dim, dtype):
    """(q, k, v), with values that bfloat16 holds, so that every dtype sees the same ones."""
    rng = np.random.default_rng(0)
    kept = (batch, kv_heads, capacity, head_dim)
    shapes = (batch, length, kv_heads * groups, head_dim), kept, kept
    return tuple(jnp.asarray(rng.normal(size=s).astype(jnp.bfloat16).astype(dtype)) for s in shapes)


@functools.partial(jax.jit, static_argnames=("window", "scoring"))
def reference(q, k, v, positions, scoring=PLAIN, window=None):
    """The plain path in float32."""
    q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
    return attend(q, [Part(lambda: (k, v), cache_mask(positions, k.shape[2], window))], scoring)


def close(got, want, dtype):
    # bfloat16 keeps 8 bits: outputs below 4 are rounded by 2**-7 at most, and the scaled queries and the weights once
    np.testing.assert_allclose(np.asarray(got, np.float32), want, atol=2e-6 if dtype == jnp.float32 else 2**-6)


@pytest.mark.parametrize(
    ("groups", "head_dim", "scoring"), [(1, 128, PLAIN), (3, 256, CAPPED), (8, 128, PLAIN)], ids=["1", "capped", "8"]
)
def test_decode_equals_the_plain_path_for_ragged_lengths(groups, head_dim, scoring):
    kernels = TpuAttention(scoring, interpret=True)
    capacity, dtype = 384, jnp.bfloat16
    q, k, v = random_case(7, 1, 1, groups, capacity, head_dim, dtype)
    rest = capacity  # the first slot, two in a row and the last are at rest; the others see 1, 201 and all keys
    at = np.array([rest, 0, rest, rest, 200, capacity - 1, rest])[:, None]
    assert kernels.serves(q, k)
    got = np.asarray(jax.jit(kernels.attend)(q, k, v, at))
    used = at[:, 0] < capacity
    close(got[used], np.asarray(reference(q, k, v, at, scoring))[used], dtype)
    assert not np.any(got[~used])  # nothing was read for them


@pytest.mark.parametrize(
    ("groups", "head_dim", "length", "dtype", "window", "scoring"),
    [
        (1, 64, 8, jnp.float32, None, Scoring(64**-0.5)),
        (3, 64, 184, jnp.bfloat16, None, Scoring(64**-0.5)),
        (4, 128, 8, jnp.bfloat16, None, PLAIN),
        (8, 128, 8, jnp.float32, 20, CAPPED),
    ],
)
def test_extend_equals_the_plain_path_at_each_slots_own_offset(groups, head_dim, length, dtype, window, scoring):
    capacity, kernels = 256, TpuAttention(scoring, interpret=True)
    q, k, v = random_case(3, length, 2, groups, capacity, head_dim, dtype)
    positions = np.array([[0], [70], [capacity - length]]) + np.arange(length)
    positions[1, length - 3 :] = capacity  # padding
    got = jax.jit(functools.partial(kernels.attend, window=window))(q, k, v, jnp.asarray(positions))
    real = positions < capacity
    close(np.asarray(got)[real], np.asarray(reference(q, k, v, positions, scoring, window))[real], dtype)


@functools.cache
def model_case():
    return random_params(CONFIG, scale=0.08), np.random.default_rng(1).integers(0, CONFIG.vocab_size, (2, 24))


def logits_of(dtype, tpu):
    """Logits of two extends, the second at an offset and padded, and of two decode steps after them."""
    apply = jax.jit(functools.partial(cached_logits, Transformer(CONFIG, dtype=dtype, tpu=tpu)))
    params, tokens = model_case()
    cache = init_cache(CONFIG, 2, 128, dtype, stacked=tpu is not None, width=None if tpu is None else 128)
    params = params if tpu is None else stack_layers(params)
    lengths = np.array([16, 11])
    out = []
    for begin, end in itertools.pairwise((0, 8, 16)):
        index = np.arange(begin, end)[None]
        where = np.where(index < lengths[:, None], index, 128)
        logits, cache = apply(params, tokens[:, begin:end], where, cache=cache, slots=np.arange(2))
        out.append(np.asarray(logits)[where < 128])
    for step in range(2):
        at = (lengths + step)[:, None]
        logits, cache = apply(params, np.take_along_axis(tokens, at, 1), at, cache=cache)
        out.append(np.asarray(logits)[:, 0])
    return np.concatenate(out)


def test_a_scanned_model_with_the_kernels_and_wider_heads_is_as_near_to_float32_as_without():
    exact, plain = logits_of(jnp.float32, None), logits_of(jnp.bfloat16, None)
    error = np.abs(logits_of(jnp.bfloat16, INTERPRETED) - exact).max()
    rounding = np.abs(plain - exact).max()
    assert 0 < error < 1.5 * rounding < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("length", [1, 8])
def test_on_a_mesh_each_device_attends_with_its_slots_and_kv_heads(length):
    mesh = make_mesh(2, 2, 2)
    sharded = TpuAttention(PLAIN, mesh, ("data", "fsdp"), ("tensor",), interpret=True)
    q, k, v = case = random_case(4, length, 2, 2, 128, 128, jnp.bfloat16)
    at = jnp.asarray([[0], [120], [64], [17]]) + jnp.arange(length)
    if length == 1:  # of the layers of a stacked cache it reads one
        k, v = (jnp.stack([jnp.zeros_like(x), x], axis=1) for x in (k, v))
        got = jax.jit(sharded.attend)(q, k, v, at, number=1)
    else:
        got = jax.jit(sharded.attend)(*case, at)
    assert got.sharding.is_equivalent_to(jax.NamedSharding(mesh, jax.P(("data", "fsdp"), None, "tensor")), 4)
    close(got, reference(*case, at), jnp.bfloat16)


@pytest.mark.parametrize(
    ("length", "head_dim", "capacity", "dtype", "served"),
    [
        (1, 128, 256, jnp.bfloat16, True),
        (1, 64, 256, jnp.bfloat16, False),
        (16, 64, 256, jnp.bfloat16, True),
        (13, 128, 256, jnp.bfloat16, False),
        (1, 128, 200, jnp.bfloat16, False),
        (16, 128, 256, jnp.float32, False),
    ],
)
def test_the_kernels_serve_only_shapes_they_compile_for(length, head_dim, capacity, dtype, served):
    q, k = (jax.ShapeDtypeStruct(s, dtype) for s in ((4, length, 8, head_dim), (4, 2, capacity, head_dim)))
    assert TpuAttention(PLAIN).serves(q, k) == served
    assert not TpuAttention(PLAIN).serves(q, jax.ShapeDtypeStruct(k.shape, jnp.int8))
    assert TpuAttention(PLAIN, window=capacity).serves(q, k) == served
    assert TpuAttention(PLAIN, window=capacity - 1).serves(q, k) == (served and length > 1)  # decode has no window


def mesh_on(platform, tensor):
    device = SimpleNamespace(platform=platform)
    return SimpleNamespace(devices=np.array([device]), shape={"slice": 1, "data": 2, "fsdp": 1, "tensor": tensor})


def test_the_platform_of_the_mesh_chooses():
    windowed = ModelConfig(64, 64, 1, 6, 2, 128, 96, sliding_window=8)

    def chosen(config, tensor, platform="tpu"):
        return TpuAttention.choose(config, mesh_on(platform, tensor), DECODE_RULES)

    assert TpuAttention.choose(CONFIG) is None  # these tests run on a CPU
    assert chosen(CONFIG, 2, "cpu") is None
    assert chosen(CONFIG, 2).head_axes == ("tensor",)
    assert chosen(CONFIG, 4) is None  # 2 kv heads
    assert chosen(windowed, 2).window == 8
