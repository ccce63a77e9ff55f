"""The kernels in C against numpy and the plain path; skipped where there is no C compiler."""

import functools

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.native import calls

pytestmark = pytest.mark.skipif(not calls.available(), reason="no C compiler")


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def made(x, matrices):
    by = [calls.panels(jnp.asarray(w)) for w in matrices]
    columns = [w.shape[1] for w in matrices]
    return [np.asarray(y) for y in jax.jit(lambda x, by: calls.products(x, by, columns))(x, by)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(1, 70),
    k=st.integers(1, 90),
    columns=st.lists(st.integers(1, 130), min_size=1, max_size=calls.MOST_MATRICES),
)
def test_products_are_those_of_numpy(seed, m, k, columns):
    rng = np.random.default_rng(seed)
    x, matrices = normal(rng, m, k), [normal(rng, k, n) for n in columns]
    for y, w in zip(made(x, matrices), matrices, strict=True):
        np.testing.assert_allclose(y, x.astype(np.float64) @ w, rtol=1e-5, atol=1e-5 * k**0.5)


def test_a_product_large_enough_for_all_threads():
    rng = np.random.default_rng(0)
    x, w = normal(rng, 37, 600), normal(rng, 600, 5003)
    (y,) = made(x, [w])
    np.testing.assert_allclose(y, x.astype(np.float64) @ w, rtol=1e-4, atol=1e-3)


def test_what_a_row_becomes_depends_on_no_other():
    rng = np.random.default_rng(1)
    x, w = normal(rng, 61, 300), normal(rng, 300, 200)
    (whole,) = made(x, [w])
    for rows in (1, 2, 5, 12, 13, 24, 32, 60):
        assert np.array_equal(made(x[:rows], [w])[0], whole[:rows])
        assert np.array_equal(made(x[-rows:], [w])[0], whole[-rows:])


def test_no_rows_make_no_rows():
    assert made(np.zeros((0, 8), np.float32), [np.zeros((8, 40), np.float32)])[0].shape == (0, 40)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_shows(bad):
    rng = np.random.default_rng(2)
    x, w = normal(rng, 3, 40), normal(rng, 40, 40)
    x[1, 7] = bad
    (y,) = made(x, [w])
    assert not np.isfinite(y[1]).any()
    assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize(
    ("x", "by", "columns"),
    [
        (np.zeros((2, 8), np.float32), [np.zeros((1, 9, 32), np.float32)], [32]),
        (np.zeros((2, 8), np.float32), [np.zeros((1, 8, 32), np.float32)], [33]),
        (np.zeros((2, 8), np.float16), [np.zeros((1, 8, 32), np.float32)], [32]),
        (np.zeros((2, 8), np.float32), [np.zeros((1, 8, 32), np.float32)] * 5, [32] * 5),
        (np.zeros((2, 8), np.float32), [np.zeros((1, 8, 32), np.float32)] * 2, [32]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, by, columns):
    with pytest.raises(ValueError, match="panels"):
        calls.products(x, by, columns)


def attended(q, positions, parts, *, window, softcap):
    scale = q.shape[-1] ** -0.5
    call = functools.partial(calls.attention, scale=scale, softcap=softcap, window=window)
    return np.asarray(jax.jit(call)(q, positions, parts))


def in_numpy(q, positions, parts, *, window, softcap):
    k, v = (np.concatenate(leaves, axis=2).astype(np.float64) for leaves in zip(*parts, strict=True))
    rows, heads, head_dim = q.shape
    grouped = q.reshape(rows, k.shape[1], -1, head_dim)
    scores = np.einsum("bkgd,bksd->bkgs", grouped, k) * head_dim**-0.5
    scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
    seen = np.arange(k.shape[2]) <= positions[:, None]
    seen &= np.arange(k.shape[2]) > (positions[:, None] - window if window else -1)
    weights = np.exp(scores - scores.max(axis=3, where=seen[:, None, None], initial=-np.inf, keepdims=True))
    weights *= seen[:, None, None]
    out = np.einsum("bkgs,bksd->bkgd", weights / weights.sum(axis=3, keepdims=True), v)
    return out.reshape(rows, heads, head_dim)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 9),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 5),
    head_dim=st.sampled_from([16, 32, 48, 64, 80, 128, 256]),
    lengths=st.lists(st.integers(1, 140), min_size=1, max_size=4),
    window=st.none() | st.integers(1, 200),
    softcap=st.none() | st.just(20.0),
    spread=st.sampled_from([0.1, 1.0, 8.0]),
)
def test_attention_is_that_of_numpy(seed, rows, kv_heads, group, head_dim, lengths, window, softcap, spread):
    rng = np.random.default_rng(seed)
    q = np.float32(spread) * normal(rng, rows, kv_heads * group, head_dim)
    parts = [tuple(normal(rng, rows, kv_heads, n, head_dim) for _ in "kv") for n in lengths]
    positions = rng.integers(0, sum(lengths), size=rows).astype(np.int32)
    found = attended(q, positions, parts, window=window, softcap=softcap)
    right = in_numpy(q, positions, parts, window=window, softcap=softcap)
    np.testing.assert_allclose(found, right, rtol=2e-5, atol=2e-5 * max(1, spread))


def test_a_slot_at_rest_gives_zeros_and_what_lies_behind_a_position_is_not_read():
    rng = np.random.default_rng(3)
    q = normal(rng, 3, 4, 16)
    k, v = normal(rng, 3, 2, 50, 16), normal(rng, 3, 2, 50, 16)
    k[:, :, 21:], v[:, :, 21:] = np.nan, np.nan
    found = attended(q, jnp.array([50, 20, -1], jnp.int32), [(k, v)], window=None, softcap=None)
    assert (found[[0, 2]] == 0).all()
    assert np.isfinite(found[1]).all()


def test_attention_to_what_is_no_number_is_none():
    rng = np.random.default_rng(4)
    k, v = normal(rng, 2, 1, 30, 16), normal(rng, 2, 1, 30, 16)
    k[0, 0, 3] = np.nan
    found = attended(normal(rng, 2, 1, 16), jnp.array([9, 9], jnp.int32), [(k, v)], window=None, softcap=None)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


@given(hnp.arrays(np.float32, (2, 64), elements=st.floats(-3e4, 3e4, width=32)))
@settings(max_examples=30, deadline=None)
def test_weights_of_any_scores_are_a_softmax(scores):
    """Of values that are the unit vectors the result is the weights themselves."""
    q, k = jnp.zeros((2, 1, 64)).at[:, :, 0].set(8.0), np.zeros((2, 1, 64, 64), np.float32)
    k[:, 0, :, 0] = scores
    v = jnp.broadcast_to(jnp.eye(64), (2, 1, 64, 64))
    found = attended(q, jnp.array([63, 63], jnp.int32), [(jnp.asarray(k), v)], window=None, softcap=None)[:, 0]
    np.testing.assert_allclose(found, jax.nn.softmax(jnp.asarray(scores), axis=1), rtol=3e-6, atol=1e-37)


def test_heads_that_no_kernel_takes_are_told_and_refused():
    assert calls.attends(9, 3, 64, 3)
    for shape in ((9, 3, 60, 3), (9, 3, 1024, 3), (65, 1, 64, 3), (9, 3, 64, 9)):
        assert not calls.attends(*shape)
    with pytest.raises(ValueError, match="no kernel takes"):
        attended(
            jnp.zeros((1, 1, 8)), jnp.zeros(1, jnp.int32), [(jnp.zeros((1, 1, 4, 8)),) * 2], window=None, softcap=None
        )
