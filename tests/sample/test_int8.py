"""Sampling with int8 parameters and an int8 cache: near float, and independent of slots, order and mesh alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sample_helpers import BOS, CONFIG, SHALLOW, VOCAB, Requests, engine, random_params

from selfevo_jax.model import Transformer, init_cache
from selfevo_jax.sample import DrawKey, Request, SamplingParams
from selfevo_jax.sharding import make_mesh

INT8 = {"param_dtype": "int8", "cache_dtype": "int8"}
SMALL = {"config": SHALLOW, **INT8}


def requests(n, **params):
    rng = np.random.default_rng(0)
    return [
        Request(
            (BOS, *rng.integers(4, VOCAB, int(rng.integers(0, 30))).tolist()),
            SamplingParams(**{"max_new_tokens": 12, **params}),
            DrawKey(1, "respond", f"p{i}"),
        )
        for i in range(n)
    ]


@functools.cache
def alone(temperature):
    """Each request in a run of its own."""
    lone, params = engine(slots=1, **SMALL), random_params(config=SHALLOW)
    return [lone.generate(params, [row])[0] for row in requests(10, temperature=temperature)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_int8_results_do_not_depend_on_slots_or_order(temperature):
    rows, lone = requests(10, temperature=temperature), alone(temperature)
    assert len({c.tokens for c in lone}) > 3
    for slots in (3, 8):
        order = np.random.default_rng(slots).permutation(len(rows))
        got = engine(slots=slots, **SMALL).generate(random_params(config=SHALLOW), [rows[i] for i in order])
        assert [c.tokens for c in got] == [lone[i].tokens for i in order]


def test_int8_results_do_not_depend_on_the_mesh():
    rows, lone = requests(10, temperature=0.0), alone(0.0)
    on_mesh, params = engine(slots=4, mesh=make_mesh(2, 2, 2), **SMALL), random_params(config=SHALLOW)
    assert on_mesh.new_state().cache.k_scale[0].addressable_shards[0].data.shape[:2] == (1, 1)
    assert [c.tokens for c in on_mesh.generate(params, rows)] == [c.tokens for c in lone]


@pytest.mark.parametrize("mesh", [None, (2, 2, 2)])
def test_parameters_are_quantized_once_and_stay_as_they_are_then(mesh):
    e = engine(slots=4, mesh=None if mesh is None else make_mesh(*mesh), **INT8)
    placed = e.place(random_params())
    assert placed["layers_0"]["mlp"]["up"]["kernel"].dtype == jnp.int8
    assert e.place(placed) is placed


def test_int8_engines_compile_ahead_and_nothing_later():
    e, rows = engine(slots=4, **SMALL), requests(8)
    for job in e.compilations(random_params(config=SHALLOW), [len(row.tokens) for row in rows]):
        job()
    before = e.programs.count
    e.generate(random_params(1, config=SHALLOW), rows)
    assert e.programs.count == before


def test_a_bfloat16_run_may_keep_its_cache_in_int8():
    e = engine(slots=4, dtype=jnp.bfloat16, cache_dtype="int8")
    assert (e.param_dtype, e.cache_dtype) == (jnp.bfloat16, jnp.int8)
    got = e.generate(random_params(), requests(4, temperature=0.0))
    assert all(c.finish == "length" and np.isfinite(c.logprobs).all() for c in got)


def test_a_text_that_is_shared_or_forked_carries_its_scales_along():
    rng = np.random.default_rng(4)
    head = (BOS, *rng.integers(4, VOCAB, 40).tolist())
    rows = [Request((*head, 5 + i), SamplingParams(max_new_tokens=6, temperature=0.0)) for i in range(6)]
    e = engine(slots=3, cache_length=96, extend_lengths=(8, 64), **INT8)
    lone = engine(slots=1, **INT8)
    chains = [Requests(i, row) for i, row in enumerate(rows)]
    assert e.run(random_params(), chains).shared > 0
    assert [chain.got[0].tokens for chain in chains] == [
        lone.generate(random_params(), [row])[0].tokens for row in rows
    ]


@pytest.mark.parametrize("setting", [{"param_dtype": "int8"}, {"cache_dtype": "int8"}, INT8], ids=str)
def test_log_probabilities_stay_near_those_of_float(setting):
    rows = requests(6, temperature=0.0)
    plain = engine(slots=3).generate(random_params(), rows)
    got = engine(slots=3, **setting).generate(random_params(), rows)
    first = [abs(a.logprobs[0] - b.logprobs[0]) for a, b in zip(plain, got, strict=True) if a.tokens[0] == b.tokens[0]]
    assert len(first) >= 4  # most first tokens are the same
    assert 0 < max(first) < 0.15  # the logits' spread is about 1; a step of int8 is 1/127 of the largest value


def test_no_program_holds_a_widened_copy_of_the_cache():
    """One layer at a time may be wide; a copy of all of them would be as large as the float cache."""
    e = engine(slots=32, cache_length=256, cache_dtype="int8")
    params, cache = random_params(), e.new_state().cache
    step = jax.jit(lambda p, t, where, c: Transformer(CONFIG).apply({"params": p}, t, where, cache=c), donate_argnums=3)
    one = jnp.zeros((32, 1), jnp.int32)
    found = step.lower(params, one, one, cache).compile().memory_analysis().temp_size_in_bytes
    wide = sum(x.nbytes for x in jax.tree.leaves(init_cache(CONFIG, 32, 256)))
    assert found < wide
