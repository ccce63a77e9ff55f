"""Top-k and top-p by bisection keep what sorting the whole vocabulary keeps, ties and all."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.sample.ranks import largest_kept

ROWS, VOCAB = 4, 24


def by_sorting(scores, top_k, mass):
    """The definitions for one row, read plainly: its sorted probabilities summed in float64."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:top_k]
    weights = np.exp(np.asarray(scores, np.float64)[order])
    before = np.cumsum(weights) - weights
    n = max(1, int(np.sum(before < mass * weights.sum()))) if mass < 1 else top_k
    return set(order[:n]), np.abs(before / weights.sum() - mass).min()


_kept = jax.jit(largest_kept)
_few = st.sampled_from([0.0, -0.0, -1e-6, -0.5, -0.5, -1.25, -3.0, -40.0, -120.0, float("-inf")])
_score = _few | st.floats(-20, 0, width=32)
_row = st.lists(_score, min_size=VOCAB - 1, max_size=VOCAB - 1)


@settings(max_examples=80)
@given(
    st.lists(_row, min_size=ROWS, max_size=ROWS),
    st.lists(st.sampled_from([1, 2, 5, VOCAB - 1, VOCAB]), min_size=ROWS, max_size=ROWS),
    st.lists(st.sampled_from([-1e-6, 1e-3, 0.5 - 1e-6, 0.9, 1.0]) | st.floats(0, 1), min_size=ROWS, max_size=ROWS),
    st.integers(0, VOCAB - 1),
)
def test_the_same_tokens_are_kept_as_by_sorting(rows, top_k, mass, best):
    scores = np.insert(np.asarray(rows, np.float32), best, 0.0, axis=1)  # the best one has the score 0
    found = np.asarray(_kept(scores, jnp.asarray(top_k), jnp.asarray(mass, jnp.float32)))
    for at in range(ROWS):
        share = float(np.float32(mass[at]))
        wanted, nearest = by_sorting(scores[at], top_k[at], share)
        said = set(np.flatnonzero(found[at]).tolist())
        possible = {i for i in wanted | said if scores[at, i] > -np.inf}
        if share >= 1 or nearest > 1e-6:  # nearer than that, rounding decides
            assert said & possible == wanted & possible
        assert best in said or 0.0 in scores[at, :best]


def test_one_token_is_kept_of_one():
    assert _kept(jnp.zeros((2, 1)), jnp.ones(2, jnp.int32), jnp.asarray([0.3, 1.0])).tolist() == [[True], [True]]


def test_thousands_of_equal_tokens_are_kept_by_their_index_up_to_the_mass():
    found = np.asarray(_kept(jnp.zeros((2, 50_000)), jnp.asarray([50_000, 300]), jnp.asarray([0.5 - 1e-6, 1.0])))
    assert np.flatnonzero(found[0]).tolist() == list(range(25_000))
    assert np.flatnonzero(found[1]).tolist() == list(range(300))
