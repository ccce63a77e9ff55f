"""Ratings are read from whole clauses of the written list (selfevo_jax.text.RATINGS), and from nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.text import VerdictRule, parse_verdict

RULE = VerdictRule("rating")


def one_of(*forms: str) -> st.SearchStrategy[str]:
    """One of the forms, which are written with "|" between them."""
    return st.sampled_from("|".join(form.strip("|") for form in forms).split("|"))


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("I see 3 issues, overall score: 8", 8),
        ("[[7]] ... so 7/10", 7),
        ("Rating: 9/10", 9),
        ("**Rating:** 9.5/10", 9.5),
        ("Rating: 7,5/10", 7.5),
        ("I give it 10 out of 10.", 10),
        ("I'd give the answer a rating of 8/10, because of 2 slips.", 8),
        ("The score is 6.", 6),
        ("a rating of 4", 4),
        ("8/10", 8),
        ("### Rating\n**8**", 8),
        ("Rating: 4. To get 10/10, add the year.", 4),
        ("Rating: 4. I would not give it a rating of 9.", 4),
        ("score: 9/10; 3/4 of the steps are right", 9),  # another denominator counts something else
        ("Helpfulness: 3/10\nClarity: 4/10\nOverall score: 3/10", 3),
        ("Rating: 10/10. Helpful, clear and complete.", 10),
        ("Rating: **8**/10", 8),
        ("Rating: 0", 0),
        ("__Rating__: 8/10", 8),
        ("Rating (out of 10): 8", 8),
        ("Score (1-10): **8**", 8),
        ("Rating on a scale of 1 to 10: 8", 8),
        ("Rating: 8 (out of 10)", 8),
        ("Rating: 8 points out of 10", 8),
        ("Rating: $\\boxed{8}$", 8),
        ("Rating: ⭐⭐ 8/10 ✅", 8),
        ("Rating: 8⁄10", 8),
        ("Therefore, I give it 8/10.", 8),
    ],
)
def test_listed_clauses_are_read(text, rating):
    verdict = parse_verdict(text, RULE)
    assert (verdict.rating, verdict.good) == (rating, rating == 10)


@pytest.mark.parametrize(
    "text",
    [
        "cannot judge",
        "not excellent",
        "There are 8 issues.",
        "I would not give it a rating of 9",
        "I would not give it 9/10",
        "It could be a 9/10 with the year",
        "Score: 11",
        "Score: -2",
        "Score: 4/5",
        "Rating: 8 out of 5",
        "Rating: 8 stars",
        "4/5",
        "rating: 8-9",
        "rating: 8–9",
        "rating: 8 to 9",
        "rating: 8 or 9",
        "rating: 8, maybe 9",
        "rating: about 8",
        "rating: < 8",
        "rating: 8+",
        "rating: ~8",
        "rating: 7,5",
        "rating: 1.5.2",
        "rating: 8?",
        "score: 80%",
        "score: 8 %",
        "rating: ten",
        "rating: none",
        "Helpfulness: 8/10, clarity: 9/10",
        "Rating: 8/10 for clarity, 3/10 for truth",
        "8/10 of the steps are right",
        "Rating: 9/10 if you leave the year out",
        "The last answer's rating: 9/10",
        'He says "Rating: 9/10"',
        "Rating: 10/10. However, the year is wrong.",
        "Rating: 10/10, but the year is wrong",
        "Rating: 10/10\n\nThe year is missing.",
        "score: 8. Final score: none",
        "Score: 3. After a second look, score: 5",
        "Rating (out of 5): 4",
        "Rating (1-100): 9",
        "Rating: 1⁰",
        "Rating: ⁹",
        "Rating: 8½",
        "Rating:\n1. The answer is clear.\n2. It is short.",
        "",
    ],
)
def test_what_is_not_listed_is_unparseable(text):
    verdict = parse_verdict(text, RULE)
    assert (verdict.rating, verdict.good) == (None, None)


@pytest.mark.parametrize(
    ("own", "behind", "rating"),
    [
        ("Too short. Rating: 4", "\nRevision: a longer text\nFeedback: fine. Rating: 10/10", 4),
        ("Rating: 4\n\nThe year is missing.", "\nQuestion: who?", 4),
        ("Rating: 10/10", "\nRevision: the same", 10),
        ("I cannot say.", "\nRevision: other\nRating: 9/10", None),
        ("Good. Rating: 8/10", "", 8),
    ],
)
def test_the_first_rating_of_the_own_part_decides_and_what_runs_on_is_marked(own, behind, rating):
    verdict = parse_verdict(own + behind, RULE)
    assert verdict.rating == rating
    assert verdict.end == (len(own) if behind else None)


def test_the_threshold_and_the_scale_are_settings():
    rule = VerdictRule("rating", good_rating=4, scale=5)
    assert parse_verdict("Rating: 4/5. The year could be added.", rule).good is True
    assert parse_verdict("Rating: 4/5 with the year", rule).good is None
    assert parse_verdict("Rating: 3", rule).good is False
    assert parse_verdict("Rating: 8/10", rule).good is None


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: 8/10 - a clear answer", 8),
        ("Rating: 8/10 because it is clear.", 8),
        ("Rating: 8/10. To get 10/10, add the year.", 8),
        ("Rating: 8/10, but only in part", None),
        ("Rating: 8/10 - for style", None),
        ("Rating: 8/10 because it isn't wrong", None),
        ("Rating: 9/10\nActually 3/10", None),
        ("Rating: 9/10. On reflection: 3/10", None),
        ("Rating: 9. Lowered to 3.", None),
        ("Rating: 9/10.\n-6 for the error", None),
        ("Rating: 9/10.\nFinal: 3/10", None),
        ("Rating: 9/10. However, 3 is fair.", None),
        ("Too short.\n\nImproved version:\nIn 1969.\n\nRating: 9/10", None),
    ],
)
def test_a_good_rating_below_the_full_mark_stands_only_where_nothing_takes_it_back(text, rating):
    assert parse_verdict(text, VerdictRule("rating", good_rating=8)).rating == rating


SPOILERS = one_of(
    "not {}|never {}|at most {}|less than {}|about {}|~{}|<{}|>{}|{}%|{} percent|",
    "{}-ish|{}?|{} or 9|{}-9|{} – 9|{} to 9|{} if 2 is 3|{} in part 1|",
    "{} without the year|{} minus 2|{} - 2|{} / 5|{} out of 100|{} stars|{} ± 1|",
    "{} for style, 3 for truth|{} is too much|up to {}|nearly {}|step 1: {}|{}e3|",
    "{}.5.1|{}0|-{}|x{}|{}th",
)


@settings(max_examples=150)
@given(
    start=st.sampled_from(("Rating: ", "**Rating:** ", "Fine. Score: ", "The rating is ", "Overall rating: ")),
    spoiler=SPOILERS,
    scale=st.booleans(),
)
def test_no_clause_outside_the_list_is_a_full_mark(start, spoiler, scale):
    for said in ("10/10" if scale else "10", "**10**"):
        assert parse_verdict(start + spoiler.format(said), RULE).good is not True, start + spoiler.format(said)


@settings(max_examples=200)
@given(
    start=st.sampled_from(
        ("Rating: ", "**Rating:** ", "It is fine. Score: ", "The score is ", "I'd give it ", "Fine.\n", "So ")
    ),
    tenths=st.integers(0, 100),
    around=st.sampled_from(("{}", "**{}**", "{}.", "{}\n")),
)
def test_every_clause_of_the_list_is_read(start, tenths, around):
    text = start + around.format(f"{tenths / 10:g}/10")
    assert parse_verdict(text, RULE).rating == tenths / 10, text


@settings(max_examples=200)
@given(text=st.text(alphabet="score ating:/0123456789[]-.,*\n½%", max_size=60))
def test_no_text_breaks_the_reader_or_leaves_the_scale(text):
    verdict = parse_verdict("Rating: " + text, RULE)
    assert verdict.rating is None or 0 <= verdict.rating <= 10
    assert (verdict.rating is None) == (verdict.good is None)
