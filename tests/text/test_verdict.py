"""Verdicts and ratings are read where they are certain, and nowhere else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.errors import ConfigError
from selfevo_jax.text import VerdictRule, parse_verdict

VERDICT, RATING = VerdictRule(), VerdictRule("rating")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("5 and 4 make 9. Verdict: correct.", True),
        ("Verdict: Incorrect", False),
        ("VERDICT: RIGHT", True),
        ("verdict - it is wrong\nVerdict: wrong", False),
        ("Verdict: not correct", False),
        ("Verdict: not wrong", True),
        ("Verdict: the answer isn't right.", False),
        ("**Verdict:** correct", True),
        ("**Verdict: `incorrect`**", False),
        ("Verdict:\ncorrect", True),
        ("The verdict is that it is correct", True),
        ("Final judgement: false", False),
        ("Verdict: correct. No: 3 + 3 is 6. Verdict: incorrect.", False),  # the last one counts
        ("Verdict: incorrect. Step 1 is correct.", False),
        ("Verdict: incorrect (the right answer is 5)", False),
        ("Verdict: correct, since the right sum is 9", True),
        ("Verdict: partially correct", None),
        ("Verdict: correct or incorrect", None),
        ("Verdict: correct, but step 2 is wrong", None),
        ("Verdict: cannot say if it is correct", None),
        ("Verdict: correct?", None),
        ("Verdict:", None),
        ("Verdict: excellent", None),
        ("The answer is correct.", None),  # no explicit verdict
        ("cannot judge", None),
        ("not excellent", None),
        ("", None),
    ],
)
def test_verdicts(text, good):
    assert parse_verdict(text, VERDICT).good is good


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("I see 3 issues, overall score: 8", 8),
        ("[[7]] ... so 7/10", 7),
        ("Rating: 9/10", 9),
        ("**Rating:** 9.5/10", 9.5),
        ("I give it 10 out of 10.", 10),
        ("The score is 6.", 6),
        ("a rating of 4", 4),
        ("Score: 3. After a second look, score: 5", 5),
        ("score: 9/10; 3/4 of the steps are right", 9),  # another denominator counts something else
        ("Rating: 0", 0),
        ("cannot judge", None),
        ("not excellent", None),
        ("There are 8 issues.", None),
        ("Score: 11", None),
        ("Score: -2", None),
        ("Score: 4/5", None),
        ("rating: 8-9", None),
        ("rating: 8 to 9", None),
        ("score: 80%", None),
        ("score: 8. Final score: none", None),
        ("4/5", None),
        ("", None),
    ],
)
def test_ratings(text, rating):
    verdict = parse_verdict(text, RATING)
    assert verdict.rating == rating
    assert verdict.good is (None if rating is None else rating == 10)


def test_the_threshold_and_the_scale_are_settings():
    rule = VerdictRule("rating", good_rating=4, scale=5)
    assert parse_verdict("Rating: 4/5", rule).good is True
    assert parse_verdict("Rating: 3", rule).good is False
    assert parse_verdict("Rating: 8/10", rule).good is None


@pytest.mark.parametrize("bad", [{"kind": "other"}, {"good_rating": 11}, {"good_rating": 0}])
def test_rules_that_cannot_be_used_are_refused(bad):
    with pytest.raises(ConfigError):
        VerdictRule(**bad)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="Vverdict:score /0123456789[]-.,*\nnoright wrong", max_size=60))
def test_no_text_breaks_the_reader_or_leaves_the_scale(text):
    assert parse_verdict(text, VERDICT).rating is None
    verdict = parse_verdict(text, RATING)
    assert verdict.rating is None or 0 <= verdict.rating <= 10
    assert (verdict.rating is None) == (verdict.good is None)
