"""Sampling with the kernels in C says what it says without them; skipped where there is no C compiler."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from sample_helpers import CONFIG, engine, random_params, requests, told

from selfevo_jax.errors import ConfigError
from selfevo_jax.model import ModelConfig, Transformer
from selfevo_jax.model.panels import is_panelled, panelled_params
from selfevo_jax.native import calls
from selfevo_jax.sharding import make_mesh

AXES = make_mesh(1, 1, 1).axis_names

pytestmark = pytest.mark.skipif(not calls.available(), reason="no C compiler")

WIDE = dataclasses.replace(CONFIG, head_dim=16)
"""Of heads that the kernel for attention takes."""
FULL = ModelConfig(
    64, 32, 4, 4, 2, 16, 64, max_position=256, sliding_window=6, local_layers=(True, False) * 2, qkv_bias=True,
    qk_norm=True, attention_softcap=20.0, logit_softcap=30.0, post_norms=True, zero_centred_norms=True,
    scaled_embeddings=True, activation="gelu",
)  # fmt: skip
SHAPES = {
    "tied": WIDE,
    "plain attention": CONFIG,
    "untied": dataclasses.replace(WIDE, tie_embeddings=False),
    "all that a shape can have": FULL,
    "experts": dataclasses.replace(WIDE, n_experts=4, experts_per_token=2),
}


def without(monkeypatch, **kw):
    with monkeypatch.context() as patch:
        patch.setattr(calls, "serves", lambda *_: False)
        return engine(**kw)


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_plain_parameters(name):
    config = SHAPES[name]
    params, model = random_params(config=config), Transformer(config)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (3, 7))
    at = np.broadcast_to(np.arange(7), (3, 7))
    right, _ = model.apply({"params": params}, tokens, at)
    found, _ = model.apply({"params": panelled_params(config, params)}, tokens, at)
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", SHAPES)
def test_texts_are_those_without_kernels(monkeypatch, name, temperature):
    config = SHAPES[name]
    native, plain = engine(config=config), without(monkeypatch, config=config)
    assert native.programs.native == (config.head_dim == 16)
    assert not plain.programs.native
    params = random_params(config=config)
    assert is_panelled(native.place(params))
    assert not is_panelled(plain.place(params))
    assert told(native, params, temperature) == told(plain, params, temperature)


def test_parts_of_a_long_cache_and_fewer_slots_at_the_end_say_the_same(monkeypatch):
    sizes = {"config": WIDE, "slots": 9, "cache_length": 250, "extend_lengths": None}
    native, plain = engine(**sizes), without(monkeypatch, **sizes)
    assert len(native.new_state().cache.starts) > 1
    rows, params = requests(20, temperature=1.0, max_new_tokens=200, stop_ids=(2,)), random_params(config=WIDE)
    assert [c.tokens for c in native.generate(params, rows)] == [c.tokens for c in plain.generate(params, rows)]


def test_texts_depend_neither_on_the_slots_nor_on_the_order():  # C01, C03
    params = random_params(config=WIDE)
    alone = told(engine(config=WIDE, slots=1), params, 1.0)
    assert told(engine(config=WIDE, slots=4), params, 1.0) == alone
    assert told(engine(config=WIDE, slots=7), params, 1.0, np.random.default_rng(0).permutation(20)) == alone


def test_texts_that_fill_the_cache_end_as_without_kernels(monkeypatch):  # C14
    sizes = {"config": WIDE, "cache_length": 34}
    rows, params = requests(12, temperature=1.0, max_new_tokens=40, stop_ids=()), random_params(config=WIDE)
    found = engine(**sizes).generate(params, rows)
    assert [(c.tokens, c.finish) for c in found] == [
        (c.tokens, c.finish) for c in without(monkeypatch, **sizes).generate(params, rows)
    ]
    assert {c.finish for c in found} == {"cache"}
    assert all(len(row.tokens) + len(c.tokens) <= 35 for row, c in zip(rows, found, strict=True))


def test_placed_parameters_are_taken_as_they_are_and_the_masters_stay():
    masters, made = random_params(), engine()
    placed = made.place(masters)
    assert made.place(placed) is placed
    assert not is_panelled(masters)
    assert jax.tree.map(np.shape, placed) == jax.tree.map(lambda x: x.shape, made.weights.shapes)


def test_parameters_placed_on_one_device_go_to_another():
    one, two = (Mesh(np.asarray(jax.devices()[i : i + 1]).reshape(1, 1, 1, 1), AXES) for i in range(2))
    placed = engine(mesh=one).place(random_params())
    moved = engine(mesh=two).place(placed)
    assert jax.tree.leaves(moved)[0].devices() == {jax.devices()[1]}
    jax.tree.map(np.testing.assert_array_equal, moved, placed)


def test_an_engine_without_kernels_says_that_it_cannot_take_panels():
    placed = engine().place(random_params())
    with pytest.raises(ConfigError, match="placed for kernels in C; this engine wants what they were made of"):
        engine(dtype="bfloat16").place(placed)


def test_masters_in_another_dtype_are_cast_with_the_matrices_of_experts():
    config = SHAPES["experts"]
    halves = jax.tree.map(lambda x: x.astype("bfloat16"), random_params(config=config))
    made = engine(config=config)
    placed = made.place(halves)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(placed)} == {"float32"}
    assert made.place(placed) is placed


@pytest.mark.parametrize(
    "kw", [{"mesh": make_mesh(2, 1, 1)}, {"dtype": "bfloat16"}, {"param_dtype": "int8"}, {"param_dtype": "bfloat16"}]
)
def test_other_places_and_dtypes_do_without(kw):
    assert not engine(**kw).weights.panelled


def test_a_mesh_of_one_device_has_them_and_an_int8_cache_has_their_products_alone():
    assert engine(config=WIDE, mesh=make_mesh(1, 1, 1)).programs.native
    quantized = engine(config=WIDE, cache_dtype="int8")
    assert quantized.weights.panelled
    assert not quantized.programs.native
