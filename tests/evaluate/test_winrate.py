"""Figures of judged pairs: by hand, and where the truth is known because it was simulated."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from selfevo_jax.evaluate.winrate import length_controlled, mean_rating, win_rate
from selfevo_jax.judges import Judgement, Pair

MARKS = {slot: f"[[{slot}]]" for slot in "ABC"} | {"-": "hm"}


def pair(slots: str, answers=("x", "y"), id="1") -> Pair:
    """A pair whose two orders were judged as two letters say; - is unreadable."""
    return Pair(id, "p", answers, tuple(Judgement.of(MARKS[slot], whole=True) for slot in slots))


def test_the_figures_of_a_hand_made_set():
    # won, won, lost, agreed tie, disagreement (first slot twice), two pairs with an unreadable order
    slots = ["AB", "AB", "BA", "CC", "AA", "A-", "-C"]
    found = win_rate([pair(s, ("four", "seven!!")) for s in slots])
    assert (found.pairs, found.wins, found.ties, found.losses, found.unjudged) == (7, 2, 2, 1, 2)
    assert found.unread == {"none": 2}
    assert found.rate.value == pytest.approx(3 / 5)
    scores = [1, 1, 0, 0.5, 0.5]
    assert found.rate.stderr == pytest.approx(np.std(scores, ddof=1) / math.sqrt(5))
    # verdicts for a side: AB AB BA AA, 8 of them, 5 for the first slot
    assert (found.first_slot.value, found.first_slot.n) == (5 / 8, 8)
    assert found.consistency.share == 4 / 5
    assert [length.value for length in found.lengths] == [4, 7]
    assert found.p == 1.0  # two wins and one loss say nothing
    assert found.length_controlled.value is None


def test_unreadable_pairs_change_no_rate():
    judged = [pair(s) for s in ("AB", "BA", "AB", "CC", "AB", "AA", "AB", "BA", "AB")]
    lost = [pair("--"), pair("A-"), pair("-B")] * 5
    one, other = win_rate(judged), win_rate(judged + lost)
    assert (one.rate, one.length_controlled, one.first_slot, one.consistency) == (
        other.rate,
        other.length_controlled,
        other.first_slot,
        other.consistency,
    )
    assert other.unjudged == 15


@settings(max_examples=60)
@example([("AB", n) for n in (4, 4, 7, 8, 4, 4, 4)] + [("BA", 4)])
@example([("AB", n) for n in (4, 4, 4, 6, 7, 4, 4, 5)])
@given(st.lists(st.tuples(st.sampled_from(["AB", "BA", "CC", "AA", "BB", "A-", "CB"]), st.integers(1, 9)), max_size=25))
def test_both_sides_shares_are_one_together(rows):
    """Changing the sides: what was first is second, and each verdict is for the other one."""
    one = win_rate([pair(slots, ("x" * n, "y")) for slots, n in rows])
    other = win_rate([pair(slots[::-1], ("y", "x" * n)) for slots, n in rows])
    assert (one.wins, one.ties, one.losses, one.unjudged) == (other.losses, other.ties, other.wins, other.unjudged)
    for a, b in ((one.rate, other.rate), (one.length_controlled, other.length_controlled)):
        if a.value is not None:
            assert a.value + b.value == pytest.approx(1, abs=1e-6)
    assert one.first_slot == other.first_slot
    assert one.consistency == other.consistency


def test_without_pairs_there_are_no_figures():
    found = win_rate([pair("--")])
    assert (found.rate.value, found.interval, found.first_slot.value, found.consistency.share) == (None,) * 4


def simulated(n, theta, phi, shift, seed):
    rng = np.random.default_rng(seed)
    differences = rng.normal(shift, 200, n)
    return (rng.random(n) < expit(theta + phi * np.tanh(differences / 200))).astype(float), differences


@pytest.mark.parametrize(("theta", "phi", "shift"), [(0.0, 1.5, 150), (-0.6, 2.0, 200)])
def test_the_length_controlled_rate_finds_the_truth_where_length_is_liked(theta, phi, shift):
    """The judge likes long answers, and the model writes longer ones: the plain rate is far off."""
    truth, found, plain = expit(theta), [], []
    for seed in range(80):
        scores, differences = simulated(80, theta, phi, shift, seed)
        found.append(length_controlled(scores, differences))
        plain.append(scores.mean())
    values, errors = np.array([f.value for f in found]), np.array([f.stderr for f in found])
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(80)
    assert abs(np.mean(plain) - truth) > 0.1
    # the stated error is the spread that is seen
    assert 0.8 < errors.mean() / values.std() < 1.25
    assert np.mean(abs(values - truth) < 1.96 * errors) > 0.85


def test_without_differences_the_length_controlled_rate_is_the_plain_one():
    scores = [1.0] * 30 + [0.5] * 10 + [0.0] * 20
    found = length_controlled(scores, [0] * 60)
    assert found.value == pytest.approx((35 + 0.5) / 61, abs=1e-4)  # Firth: half a win and half a loss more
    assert found.stderr == pytest.approx(np.std(scores) / math.sqrt(59), rel=0.03)
    assert length_controlled(scores, [5] * 60).value is None  # what a length does cannot be seen
    assert length_controlled([0.0, 1.0] * 15, [100 + n % 3 for n in range(30)]).value is None


def test_a_side_that_wins_everything_has_a_finite_rate_with_an_error():
    found = length_controlled([1.0] * 40, list(range(-20, 20)))
    assert 0.95 < found.value < 1
    assert 0.01 < found.stderr < 0.05


def test_a_mean_rating_leaves_out_what_cannot_be_read():
    found = mean_rating([7.0, None, 9.0, 8.0])
    assert (found.value, found.n, found.unread) == (8.0, 3, 1)
    assert found.stderr == pytest.approx(1 / math.sqrt(3))
    assert mean_rating([None]).value is None
    assert mean_rating([5.0]).stderr is None
