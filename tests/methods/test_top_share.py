"""The top share of a round: what is kept where scores, and not verdicts, decide."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.methods.selection import least_score, lets_through, select


def rows(*scores: float | None) -> list[Rollout]:
    """One answer each; None is feedback that could not be read."""
    return [
        Rollout(f"{i:03}", 0, f"prompt {i}", (Candidate(f"answer {i}", "stop", (1,), _feedback(score)),), 0)
        for i, score in enumerate(scores)
    ]


def _feedback(score: float | None) -> Feedback:
    return Feedback("words", "stop", None if score is None else False, score)


def kept(given: list[Rollout], share: float, seed: int = 0) -> list[str]:
    return [r.id for r in select(given, "feedback", seed, top_share=share).kept]


def test_the_rows_with_the_best_scores_are_kept_whether_they_are_called_good_or_not() -> None:
    given = rows(3, 8, 5, 9, 1, 7, 2, 4)
    assert kept(given, 0.25) == ["001", "003"]
    found = select(given, "feedback", 0, top_share=0.25)
    assert (found.counts.least_score, found.counts.drawn_by_lot, found.counts.judged_good) == (8, 0, 2)


def test_what_cannot_be_read_has_no_score_and_is_in_no_share() -> None:
    assert kept(rows(None, 1, None, 2, None, 3), 0.34) == ["005"]
    assert kept(rows(None, None), 0.5) == []
    assert least_score(rows(None), 0.5) == math.inf
    clipped = Rollout("c", 0, "p", (Candidate("answer", "length", (1,), _feedback(10)),), 0)
    assert kept([*rows(1, 2), clipped], 0.5) == ["001"]


def test_one_row_at_least_is_kept_and_a_share_is_never_passed() -> None:
    assert len(kept(rows(1, 2, 3), 0.01)) == 1
    assert len(kept(rows(*range(30)), 0.1)) == 3
    assert len(kept(rows(*range(10)), 0.25)) == 2
    assert len(kept(rows(*range(10)), 1.0)) == 10


@settings(max_examples=50)
@given(st.lists(st.one_of(st.none(), st.integers(1, 4)), max_size=30), st.floats(0.01, 1.0), st.randoms())
def test_the_choice_depends_on_no_order_and_no_row_left_out_is_better_than_one_kept(scores, share, order) -> None:
    given_rows = rows(*scores)
    shuffled = order.sample(given_rows, len(given_rows))
    found = select(given_rows, "feedback", 3, top_share=share)
    assert select(shuffled, "feedback", 3, top_share=share) == found
    chosen = {r.id for r in found.kept}
    inside = [s for s, r in zip(scores, given_rows, strict=True) if r.id in chosen]
    outside = [s for s, r in zip(scores, given_rows, strict=True) if r.id not in chosen and s is not None]
    assert min(inside, default=9) >= max(outside, default=0)
    assert found.counts.drawn_by_lot == (inside.count(min(inside)) if inside and min(inside) in outside else 0)


def test_lots_are_drawn_by_the_seed_among_equal_scores() -> None:
    given = rows(9, *[7] * 20)
    drawn = {tuple(kept(given, 0.3, seed)) for seed in range(5)}
    assert len(drawn) == 5
    assert all(ids[0] == "000" and len(ids) == 6 for ids in drawn)
    assert select(given, "feedback", 0, top_share=0.3).counts.drawn_by_lot == 5


def test_a_random_filter_keeps_as_many_as_the_top_share() -> None:
    assert select(rows(*range(20)), "random", 0, top_share=0.25).counts.kept == 5


@pytest.mark.parametrize(
    ("good", "score", "least", "through"),
    [
        (True, None, None, True),
        (False, 9, None, False),
        (None, 9, None, False),
        (False, 9, 8.0, True),
        (True, 7, 8.0, False),
        (None, None, 8.0, False),
        (True, 10, math.inf, False),
    ],
)
def test_a_planted_answer_passes_where_the_filter_of_its_round_would_let_it_through(good, score, least, through):
    assert lets_through(good, score, least) is through
