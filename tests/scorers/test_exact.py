"""Texts that are compared as a whole."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scorer_helpers import fault, grade, key, row

from selfevo_jax.scorers.exact import Exact

LOOSE = {"punctuation": False, "articles": False}


@pytest.mark.parametrize(
    ("how", "gold", "text", "right"),
    [
        ({}, "Paris", "  paris \n", True),
        ({}, "New  York", "new\u00a0york", True),
        ({}, "ﬁve", "FIVE", True),  # a ligature is two letters
        ({}, "Straße", "STRASSE", True),
        ({}, "Paris", "Paris.", False),
        ({}, 51.0, "51", True),
        ({}, ["Paris", "City of Light"], "city of light", True),
        ({"case": True}, "Paris", "paris", False),
        (LOOSE, "The Beatles", "beatles!", True),
        (LOOSE, "“café”", "Café", True),
        (LOOSE, "therapist", "rapist", False),  # an article is a word
    ],
)
def test_texts_are_equal_but_for_what_the_settings_say_does_not_count(how, gold, text, right) -> None:
    assert grade(Exact(**how), row(answer=gold), text).right is right


@pytest.mark.parametrize(
    ("how", "texts", "said"),
    [
        (
            {},
            ["It is good.", "good", "Good!", "bad", "no"],
            "2 of 5 .* wrong .1 of them by their punctuation alone",
        ),
        ({}, ["The review is good", "It is a good one", "bad"], "2 of 3 answers .* wrong, since the scorer 'exact'"),
        (LOOSE, ["good.", "Good!", "The good"], None),
        ({}, ["good", "it is good"], None),  # no more than are right
        ({}, ["goodness", "badly", "no", "it is good", "?"], None),  # fewer than a quarter
    ],
)
def test_answers_that_hold_the_gold_text_in_a_sentence_are_counted_aloud(how, texts, said) -> None:
    found = Exact(**how).hint([row(answer=["good", "fine"])] * len(texts), texts)
    assert found is None if said is None else re.match(said, found), found


def squad(text: str) -> str:
    """The official evaluation of SQuAD, for ASCII."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


@settings(max_examples=200)
@given(st.text(alphabet="aAnthe THE.,'$x9 \n", max_size=30), st.text(alphabet="aAnthe THE.,'$x9 \n", max_size=30))
def test_without_punctuation_and_articles_texts_are_equal_as_squad_has_it(one: str, other: str) -> None:
    exact = Exact(**LOOSE)
    if squad(one):
        assert grade(exact, row(answer=one), other).right is (squad(one) == squad(other))
    assert (key(exact, row(), one) == key(exact, row(), other)) is (squad(one) == squad(other))


def test_an_empty_text_is_no_answer_and_has_no_vote() -> None:
    found = grade(Exact(), row(answer="x"), " \n")
    assert (found.right, found.answered) == (False, False)
    assert key(Exact(), row(), " ") is None


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (None, "answer: is missing; the row has the columns: answer"),
        ([], "expected a text"),
        (["x", {"y": 1}], "expected a text"),
        (True, "found true, expected a text"),
        ("the", "nothing is left to compare"),
        (float("inf"), "too large"),
    ],
)
def test_gold_that_cannot_be_compared_is_a_fault_with_its_column(gold, said: str) -> None:
    assert said in (fault(Exact(**LOOSE), row(answer=gold)) or "")


def test_a_column_may_have_another_name() -> None:
    renamed = Exact(columns={"answer": "target"})
    assert grade(renamed, row(target="Rome", answer="Paris"), "rome").right
    assert (fault(renamed, row(answer="Paris")) or "").startswith("target: is missing; the row has the columns: answer")
