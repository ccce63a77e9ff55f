"""How a token is chosen, against distributions worked out by hand and a plain numpy reading of the definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selfevo_jax.errors import ConfigError
from selfevo_jax.sample import SamplingParams
from selfevo_jax.sample.methods import draw, filter_logits, first_largest, key_words, make_keys, sampled, settings_of


def kept(probabilities, **kw):
    """The tokens that survive for one row of probabilities."""
    p = settings_of([SamplingParams(**kw)])
    logits = jnp.log(jnp.asarray([probabilities], jnp.float32))
    out = jax.jit(filter_logits)(logits, p.temperature, p.top_k, p.top_p, p.min_p)
    return np.flatnonzero(np.isfinite(np.asarray(out[0]))).tolist()


def keys(n, seed=0):
    return make_keys(jnp.asarray(np.stack([key_words(seed, 0, "s", str(i), 0) for i in range(n)])))


_first_largest = jax.jit(first_largest)


def test_top_p_keeps_the_token_that_crosses_the_mass():
    assert kept([0.45, 0.35, 0.15, 0.05], top_p=0.7) == [0, 1]


def test_top_p_met_exactly_keeps_no_further_token():
    assert kept([0.5, 0.25, 0.125, 0.125], top_p=0.75) == [0, 1]


def test_top_k_then_top_p_never_drops_the_top_token():
    assert kept([0.2, 0.5, 0.3], top_k=1, top_p=0.8) == [1]
    assert kept([0.2, 0.5, 0.3], top_k=2, top_p=0.7) == [1, 2]  # .5/.8 = .625 < .7


def test_tiny_top_p_keeps_one_token():
    assert kept([0.2, 0.5, 0.3], top_p=1e-9) == [1]


def test_top_k_of_equal_logits_keeps_exactly_k():
    assert kept([0.25] * 4, top_k=2) == [0, 1]
    assert kept([0.25] * 4, top_p=0.5) == [0, 1]
    assert kept([0.25] * 4, top_k=99) == [0, 1, 2, 3]


def test_min_p_is_relative_to_the_top_token():
    assert kept([0.5, 0.26, 0.2, 0.04], min_p=0.5) == [0, 1]
    assert kept([0.5, 0.3, 0.2], min_p=1.0) == [0]


def test_temperature_comes_before_the_filters():
    # squared and renormalised: .641, .256, .103
    assert kept([0.5, 0.316, 0.2], temperature=0.5, top_p=0.6) == [0]
    assert kept([0.5, 0.316, 0.2], temperature=1.0, top_p=0.6) == [0, 1]


def _reference(logits, params):
    """The definitions read plainly, in float64."""
    x = np.asarray(logits, np.float64) / params.temperature
    order = sorted(range(len(x)), key=lambda i: (-x[i], i))
    if params.top_k:
        order = order[: params.top_k]
    if params.top_p < 1:
        mass = np.exp(x[order] - x.max())
        mass /= mass.sum()
        n = next(i + 1 for i in range(len(order)) if i + 1 == len(order) or mass[: i + 1].sum() >= params.top_p - 1e-6)
        order = order[:n]
    return {i for i in order if np.exp(x[i] - x.max()) >= params.min_p - 1e-6}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 12),
    top_p=st.sampled_from([0.05, 0.37, 0.81, 1.0]),
    min_p=st.sampled_from([0.0, 0.03, 0.4]),
)
def test_filters_agree_with_their_plain_definitions(seed, temperature, top_k, top_p, min_p):
    logits = np.random.default_rng(seed).normal(size=10).astype(np.float32) * 2
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    s = settings_of([params])
    out = np.asarray(jax.jit(filter_logits)(logits[None], s.temperature, s.top_k, s.top_p, s.min_p))[0]
    assert set(np.flatnonzero(np.isfinite(out))) == _reference(logits, params)


def test_temperature_zero_is_the_maximum_on_every_seed():
    logits = jnp.asarray([[1.0, 2.5]] * 4)
    s = settings_of([SamplingParams(temperature=0)] * 4)
    for seed in range(5):
        tokens, logprobs = jax.jit(draw)(logits, keys(4, seed), jnp.zeros(4, jnp.int32), s)
        assert tokens.tolist() == [1] * 4
        np.testing.assert_allclose(logprobs, -np.log1p(np.exp(-1.5)), rtol=1e-6)


@settings(max_examples=25)
@given(arrays(np.float32, (4, 9), elements=st.sampled_from([-np.inf, -2.5, -0.0, 0.0, 1e-30, 3.0, np.inf])))
def test_the_first_of_equal_largest_scores_is_taken(scores):
    np.testing.assert_array_equal(_first_largest(scores), np.argmax(scores, axis=-1))


def test_a_row_that_is_no_number_still_gives_an_index():
    assert 0 <= int(_first_largest(np.full((4, 9), np.nan, np.float32))[0]) < 9


def test_mixed_temperatures_leave_greedy_rows_greedy_and_all_finite():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(64, 50)), jnp.float32)
    s = settings_of([SamplingParams(temperature=0 if i % 2 else 0.8, top_p=0.9) for i in range(64)])
    tokens, logprobs = jax.jit(draw)(logits, keys(64), jnp.zeros(64, jnp.int32), s)
    assert tokens[1::2].tolist() == np.argmax(logits, -1)[1::2].tolist()
    assert tokens[::2].tolist() != np.argmax(logits, -1)[::2].tolist()
    assert np.isfinite(logprobs).all()


_draw, _sixteen_keys = jax.jit(draw), functools.cache(lambda: keys(16))


@settings(max_examples=25)
@given(
    st.integers(0, 2**31 - 1),
    st.lists(st.booleans(), min_size=12, max_size=12).filter(any),
    st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    st.sampled_from([0, 1, 5, 99]),
    st.sampled_from([0.1, 0.9, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_what_is_not_allowed_is_never_drawn_and_has_no_share_of_the_probability(
    seed, allowed, temperature, top_k, top_p, min_p
):
    rng = np.random.default_rng(seed)
    allowed = np.asarray(allowed)
    logits = (5 * rng.normal(size=(16, 12)) + 20 * ~allowed).astype(np.float32)  # the others would win
    params = settings_of([SamplingParams(temperature, top_k, top_p, min_p)] * 16)
    at = np.full(16, seed, np.int32)
    tokens, logprobs = _draw(logits, _sixteen_keys(), at, params, allowed)
    assert allowed[tokens].all()
    kept = np.where(allowed, np.asarray(logits, np.float64), -np.inf)
    shares = np.exp(kept - kept.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(logprobs), shares[np.arange(16), tokens], rtol=1e-5)
    alone, its_logprobs = _draw(kept.astype(np.float32), _sixteen_keys(), at, params)
    np.testing.assert_array_equal(tokens, alone)
    np.testing.assert_array_equal(logprobs, its_logprobs)


def test_tiny_temperatures_and_huge_logits_stay_finite():
    logits = jnp.asarray([[3e4, 3e4 - 1, -3e4]] * 2)
    s = settings_of([SamplingParams(temperature=t) for t in (1e-30, 1e-4)])
    tokens, logprobs = jax.jit(draw)(logits, keys(2), jnp.zeros(2, jnp.int32), s)
    assert tokens.tolist() == [0, 0]
    assert np.isfinite(logprobs).all()


def test_draws_follow_the_distribution():
    p = np.asarray([0.5, 0.3, 0.15, 0.05])
    n = 4000
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(p, jnp.float32)), (n, 4))
    s = settings_of([SamplingParams()] * n)
    tokens, _ = jax.jit(draw)(logits, keys(n), jnp.arange(n, dtype=jnp.int32), s)
    share = np.bincount(np.asarray(tokens), minlength=4) / n
    assert np.abs(share - p).max() < 4 * np.sqrt(0.25 / n)  # four standard errors


def test_draws_over_many_blocks_follow_the_distribution():
    """A vocabulary that no number of blocks divides: with dropped tokens, blocks of nothing, and one that outweighs."""
    n, vocab = 40000, 301
    scores = np.random.default_rng(0).normal(size=vocab) * 2
    scores[40:120], scores[::7], scores[200] = -np.inf, -np.inf, scores.max() + 3
    p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    at = jnp.arange(n, dtype=jnp.int32)
    here = jax.vmap(jax.random.fold_in)(jnp.broadcast_to(keys(1), n), at)
    rows = jnp.broadcast_to(jnp.asarray(scores - scores.max(), jnp.float32), (n, vocab))
    found = np.bincount(np.asarray(jax.jit(sampled)(rows, here)), minlength=vocab)
    assert found[p == 0].sum() == 0
    often = n * p >= 5
    squares = ((found - n * p) ** 2 / np.maximum(n * p, 1e-9))[often].sum()
    freedom = often.sum() - 1
    assert abs(squares - freedom) < 4 * np.sqrt(2 * freedom)  # chi squared, four standard errors
    assert abs(found[~often].sum() - n * p[~often].sum()) < 4 * np.sqrt(n * p[~often].sum())


@pytest.mark.parametrize("change", [1, 2, 3, 4, 5])
def test_every_part_of_the_key_changes_the_draws(change):
    base = [0, 0, "respond", "a", 0]
    other = list(base)
    other[change - 1] = {3: "refine", 4: "b"}.get(change, 1)
    assert not np.array_equal(key_words(*base), key_words(*other))
    assert np.array_equal(key_words(*base), key_words(*base))


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"stop_ids": (64,)}, "stop id 64"),
        ({"stop_strings": ("",)}, "stop string"),
    ],
)
def test_unusable_settings_are_named(bad, field):
    with pytest.raises(ConfigError, match=field):
        SamplingParams(**bad).validated(vocab_size=64)
