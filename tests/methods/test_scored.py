"""Selections by a score, each beside a figure that can be checked by hand."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import RoundsSection, parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods import open_method
from selfevo_jax.methods.mixture import faded
from selfevo_jax.methods.preferences import sample_pairs
from selfevo_jax.methods.scored import above_quantile, best_of_n, by_score, extreme_weights, improved
from selfevo_jax.methods.selection import select


def answer(text, score, good=False, finish="stop"):
    """`score` None: feedback that cannot be read."""
    said = Feedback("words", "stop", None if score is None else good, score)
    return Candidate(text, finish, (1,), said)


def samples(prompt, *scores):
    return [Rollout(prompt, n, prompt, (answer(f"{prompt}{n}", score),), 0) for n, score in enumerate(scores)]


def chain(prompt, *scores):
    return Rollout(prompt, 0, prompt, tuple(answer(f"{prompt}{n}", score) for n, score in enumerate(scores)), 0)


def kept(taken):
    return [(row.prompt, row.sample) for row in taken.rows]


def test_the_best_of_each_prompt_is_kept_or_the_best_of_the_whole_round() -> None:
    rows = [*samples("p", 0.2, 0.9), *samples("q", 0.5, 0.4)]
    assert kept(best_of_n(rows, 1)) == [("p", 1), ("q", 0)]

    def top(share):
        return [(r.prompt, r.sample) for r in select(rows, "feedback", 0, top_share=share).kept]

    assert top(0.5) == [("p", 1), ("q", 0)]
    assert top(0.25) == [("p", 1)]


def test_of_equal_scores_the_earliest_is_the_best() -> None:
    assert kept(best_of_n(samples("p", 0.1, 0.7, 0.7), 1)) == [("p", 1)]
    assert kept(best_of_n(samples("p", 0.7, 0.1, 0.7, 0.9), 2)) == [("p", 0), ("p", 3)]


def test_a_threshold_that_rises_keeps_less_of_each_round() -> None:
    rows = [row for n, score in enumerate((0, 0.25, 0.5, 0.75, 1)) for row in samples(f"p{n}", score)]
    section = RoundsSection(select="threshold", quantiles=(0.5, 0.75))
    sizes = []
    for round in (1, 2, 3):
        found = by_score(section, round)
        assert found is not None
        sizes.append(len(found(rows).rows))
    assert sizes == [3, 2, 2]


def test_quantiles_of_rounds_that_are_not_run_are_said() -> None:
    def said(number: int) -> str | None:
        return RoundsSection(select="threshold", quantiles=(0.5, 0.6, 0.75), number=number).notice()

    assert [said(0), said(3), RoundsSection(number=1).notice()] == [None] * 3
    assert "found 3, one for each round, but rounds.number is 1, so that no round is filtered by 0.6, 0.75" in said(1)


def test_right_samples_are_capped_in_their_order() -> None:
    rows = [
        Rollout("p", n, "p", (Candidate(f"{n}", "stop", (1,), Feedback("f", "stop", good, None)),), 0)
        for n, good in enumerate((True, True, False, True))
    ]
    assert [r.sample for r in select(rows, "feedback", 0, per_prompt=2).kept] == [0, 1]


def test_a_refinement_is_kept_where_it_scores_more_than_its_response_by_the_margin() -> None:
    rows = [chain("a", 0.5, 0.6), chain("b", 0.5, 0.8), chain("c", 0.5, 0.9, 0.9), chain("d", 0.9)]
    found = improved(rows, 0.2)
    assert [(r.prompt, r.chosen) for r in found.rows] == [("b", 1), ("c", 1)]
    assert found.unscored == 1
    assert [r.prompt for r in improved([chain("e", 0.5, 0.5), chain("f", 0.5, 0.7)], 0.0).rows] == ["f"]
    assert improved([chain("g", 0.5, 0.7)], 0.2).rows == []


def test_the_best_and_the_worst_count_or_the_best_counts_four_times_another() -> None:
    assert extreme_weights((2, 5, 1, 4), "best_worst") == [0, 1, 1, 0]
    assert extreme_weights((2, 5, 1, 4), "best_random") == [0.1, 0.4, 0.1, 0.1]


def test_pairs_of_extremes_are_the_best_over_the_worst_or_over_any_worse_one_by_the_seed() -> None:
    rows = samples("p", 2, 5, 1, 4, 5)

    def pair(*how):
        return [(found.better.rollout.sample, found.worse.rollout.sample) for found in sample_pairs(rows, *how)]

    assert pair() == [(1, 2)]
    drawn = {pair("best_random", seed)[0] for seed in range(30)}
    assert drawn == {(1, 0), (1, 2), (1, 3)}
    assert pair("best_random", 4) == pair("best_random", 4)
    assert list(sample_pairs(samples("q", 3, 3), "best_random")) == []


@settings(max_examples=30)
@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=12), st.integers(1, 4), st.randoms())
def test_what_has_no_score_is_counted_and_no_row_left_out_is_better_than_one_kept(scores, keep, order) -> None:
    rows = [*samples("p", *scores), replace(chain("q", 9), candidates=(answer("cut", 9, finish="length"),))]
    for policy, taken in (("best_of_n", best_of_n(rows, keep)), ("threshold", above_quantile(rows, 0.5))):
        assert taken.unscored == scores.count(None)
        inside = [r.candidates[0].feedback.rating for r in taken.rows]
        outside = [s for n, s in enumerate(scores) if s is not None and ("p", n) not in kept(taken)]
        assert None not in inside
        assert min(inside, default=9) >= max(outside, default=0)
        found = select(order.sample(rows, len(rows)), policy, 0, None, None, lambda rows, t=policy: by(t, keep)(rows))
        assert [r.sample for r in found.kept] == [n for _, n in kept(taken)]
        assert (found.counts.unscored, found.counts.kept) == (taken.unscored, len(taken.rows))


def by(policy, keep):
    changes = {"keep": keep} if policy == "best_of_n" else {}
    return by_score(RoundsSection(select=policy, **changes), 1)


def test_prompts_outside_the_window_of_pass_rates_are_left_out_and_counted() -> None:
    good = {"easy": (1, 1, 1, 1), "some": (1, 0, 0, 0), "none": (0, 0, 0, 0), "most": (1, 1, 1, 0), "unread": (None,)}
    rows = [
        Rollout(prompt, n, prompt, (Candidate(f"{n}", "stop", (1,), Feedback("f", "stop", said, None)),), 0)
        for prompt, of in good.items()
        for n, said in enumerate(None if one is None else bool(one) for one in of)
    ]
    found = select(rows, "none", 0, pass_rate=(0.2, 0.8))
    assert {r.prompt for r in found.kept} == {"some", "most"}
    assert found.counts.outside == 9
    assert {r.prompt for r in select(rows, "none", 0).kept} == {"easy", "some", "none", "most", "unread"}


@given(st.integers(0, 40), st.floats(0, 1), st.integers(0, 5))
@settings(max_examples=40)
def test_of_older_rounds_a_smaller_part_of_the_same_rows_is_learnt(size, decay, age) -> None:
    rows = list(range(size))
    now, later = (faded(rows, decay, n, "1 2") for n in (age, age + 1))
    assert len(now) == int(size * decay**age + 0.5)
    assert set(later) <= set(now)
    assert now == sorted(now)
    assert faded(rows, 1.0, age, "x") == rows


def method(name="self_refine", data=None, judge=None, **rounds):
    tree = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}, **(data or {})}}
    return open_method(parse_config({**tree, "method": {"name": name}, "judge": judge or {}, "rounds": rounds}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"select": "best_of_n"}, r"best_of_n ranks by scores, but the judge gives verdicts alone; set judge.kind"),
        ({"select": "threshold"}, r"threshold ranks by scores"),
        ({"select": "improvement", "turns": 0}, r"rounds.turns: found 0, but improvement compares refinements"),
        ({"select": "extremes"}, r"extremes keeps answers that score badly too, and self_refine would learn them"),
        ({"select": "best_of_n", "judge": {"kind": "likelihood"}}, r"data.samples_per_prompt: found 1"),
        ({"keep": 2}, r"rounds.keep: of best_of_n, but rounds.select is feedback; leave it out"),
        ({"margin": 0.1}, r"rounds.margin: of improvement"),
        ({"quantiles": []}, r"rounds.quantiles: found"),
        ({"pass_rate": [0.8, 0.2]}, r"rounds.pass_rate: found \[0.8, 0.2\], expected the lower share first"),
        ({"pass_rate": [0.2, 0.8], "turns": 0, "select": "none"}, r"rounds.pass_rate: counts verdicts"),
        (
            {"pass_rate": [0.2, 0.8], "name": "self_training"},
            r"rounds.pass_rate: found \[0.2, 0.8\], but self_training does not read it; leave it out$",
        ),
        ({"prompts": "answered", "order": "cyclical"}, r"rounds.order: of given prompts, but rounds.prompts is"),
        ({"decay": 0.5, "pool": "last"}, r"rounds.decay: found 0.5, but the rows of the last round alone are learnt"),
    ],
)
def test_a_selection_that_could_not_select_is_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        method(**changes)


def test_a_round_of_a_method_keeps_by_its_scores_and_learns_less_of_older_ones() -> None:
    found = method(
        select="best_of_n", judge={"kind": "likelihood"}, data={"samples_per_prompt": 2}, pool="all", decay=0.5
    )
    rows = [row for n in range(8) for row in samples(f"p{n}", 0.2, 0.9)]
    assert [(r.prompt, r.sample) for r in found.select(rows, 1).kept] == [(f"p{n}", 1) for n in range(8)]
    assert [len(found.faded(rows, of, 3)) for of in found.pooled(3)] == [16, 4, 8]


def test_the_best_of_four_samples_is_right_as_often_as_one_of_four_is() -> None:
    rng = random.Random(0)
    rights = [[float(rng.random() < 0.3) for _ in range(4)] for _ in range(600)]
    rows = [row for n, scores in enumerate(rights) for row in samples(f"{n:04}", *scores)]
    best = best_of_n(rows, 1).rows
    share = sum(r.candidates[0].feedback.rating for r in best) / len(best)
    assert share == pytest.approx(1 - 0.7**4, abs=0.05)
