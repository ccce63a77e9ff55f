"""Several texts of feedback, joined to one score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfevo_jax.config import parse_config
from selfevo_jax.errors import SelfevoError
from selfevo_jax.judges import JudgeSection, open_judge
from selfevo_jax.judges.ensemble import joined_score
from selfevo_jax.text import Verdict

GOOD, BAD, UNREAD = Verdict(True, None), Verdict(False, None), Verdict(None, None)


def judge(**ensemble):
    changes = {key: ensemble.pop(key) for key in ("good_rating", "good_score") if key in ensemble}
    return open_judge(JudgeSection(kind="ensemble", ensemble=ensemble, **changes))


def marks(*values):
    return [Verdict(value >= 10, value) for value in values]


@pytest.mark.parametrize(
    ("join", "a", "b"),
    # Coste et al., arXiv 2310.02743: two answers marked by three members
    [("mean", 2.0, 6.4 / 3), ("min", 1.0, 1.9), ("mean_minus_variance", 2 - 1 / 3, 2.0988889)],
)
def test_scores_are_joined_as_the_mean_the_worst_one_or_the_mean_less_half_the_variance(join, a, b) -> None:
    assert joined_score((1, 2, 3), join, 0.5) == pytest.approx(a)
    assert joined_score((2.5, 2, 1.9), join, 0.5) == pytest.approx(b)


@given(st.lists(st.sampled_from([GOOD, BAD, UNREAD]), min_size=5, max_size=5))
def test_of_verdicts_most_votes_win_and_what_cannot_be_read_is_no_vote(read) -> None:
    good, bad = read.count(GOOD), read.count(BAD)
    found = judge(samples=5).joined(read)
    if good + bad < 3:
        assert (found.good, found.rating) == (None, None)
    else:
        assert (found.good, found.rating) == (good > bad, pytest.approx(good / (good + bad), abs=1e-6))


def test_votes_that_must_agree_or_be_readable_are_settings() -> None:
    assert judge(samples=2, good_score=0.5).joined([GOOD, BAD]).good is True
    assert judge(samples=2, good_score=1.0).joined([GOOD, BAD]).good is False
    assert judge(samples=3, least_read=3).joined([GOOD, GOOD, UNREAD]).good is None
    assert judge(samples=3, least_read=1).joined([GOOD, UNREAD, UNREAD]).good is True


def test_marks_are_joined_on_their_scale() -> None:
    rated = {"member": "rating", "good_rating": 8}
    assert judge(**rated).joined(marks(10, 9, 5)) == Verdict(True, 8.0)
    assert judge(**rated, join="min").joined(marks(10, 9, 5)) == Verdict(False, 5.0)
    less = judge(**rated, join="mean_minus_variance", weight=1.0).joined(marks(10, 8, 9))
    assert less.rating == pytest.approx(9 - 2 / 3)


def test_each_instruction_asks_and_as_often_as_is_said() -> None:
    assert judge().asks == (None, None, None)
    assert judge(instructions=["Is it true?", "Is it whole?"]).asks == ("Is it true?", "Is it whole?")
    assert judge(instructions=["a", "b"], samples=2).asks == ("a", "a", "b", "b")


def test_written_feedback_is_read_as_its_members_read_it() -> None:
    assert judge().read("Verdict: correct.").good is True
    assert judge(member="rating").read("Rating: 4/10").rating == 4
    assert judge(member="rating").bare("It lacks an end. Rating: 4", False) == "Rating: 4"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ensemble", "ensemble": {"samples": 1}}, "give one text of feedback on each answer"),
        ({"kind": "ensemble", "ensemble": {"instructions": ["a", "a"]}}, "found one of them twice"),
        ({"kind": "ensemble", "ensemble": {"least_read": 4}}, "least_read: found 4, but each answer has 3 texts"),
        (
            {"ensemble": {"samples": 4}},
            "judge.ensemble.samples: of ensemble, but judge.kind is verdict; set judge.kind: ensemble",
        ),
        (
            {"kind": "rating", "likelihood": {"good": "yes"}},
            "judge.likelihood.good: of likelihood, but judge.kind is rating",
        ),
        ({"kind": "rating", "good_score": 0.7}, "rating gives no score from 0 to 1"),
        ({"kind": "ensemble", "ensemble": {"member": "rating"}, "good_score": 0.7}, "ensemble gives no score from 0"),
        ({"top_share": 0.2}, "a verdict is no score to rank by"),
        ({"kind": "likelihood", "likelihood": {"good": "right", "bad": "right"}}, "likelihood.bad are one word"),
        ({"kind": "likelihood", "likelihood": {"lead": "Verdict: "}}, "expected no white space around it"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message) -> None:
    with pytest.raises(SelfevoError, match=message):
        parse_config({"run_dir": "r", "model": {"source": "m"}, "data": {"stories": {}}, "judge": changes})
