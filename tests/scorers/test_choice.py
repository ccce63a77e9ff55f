"""One of several choices."""

import random

import pytest
from scorer_helpers import fault, grade, key, row

from selfevo_jax.scorers.choice import Choice

CITIES = row(choices=["Paris", "London", "New York", "12"], answer="B")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *((text, "B") for text in ("B", "(B)", "B.", "b", "**B**", "[B]", "Option B", "$B$", "Let me think.\n\nB")),
        *((f"The answer is {said}", "B") for said in ("B.", "(B) London.", "B, London.", "B. Because A is far.")),
        *((text, "B") for text in ("Answer: B", "Answer:\nB", "**Answer:** (B)", "<answer>B</answer>")),
        ("The correct option is B because it rains.", "B"),
        (r"so \boxed{B}.", "B"),
        (r"The answer is A. No: \boxed{\text{(B) London}}", "B"),
        ("B) London", "B"),
        ("B. London is in England.", "B"),
        ("A is wrong, so the answer is B", "B"),
        ("I am not sure, but the answer is B", "B"),
        ("A. Paris\nB. London\nC. New York\n\nThe answer is C.", "C"),
        ("London.", "B"),
        ("The answer is London.", "B"),
        ("the correct answer is: 12", "D"),
        ("B\n\nQuestion: And now?\nAnswer: C", "B"),
    ],
)
def test_the_letter_or_the_text_of_a_choice_is_read(text: str, letter: str) -> None:
    assert key(Choice(), CITIES, text) == letter
    found = grade(Choice(), CITIES, text)
    assert (found.right, found.answered) == (letter == "B", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I think B",
        "The answer is A or B",
        "A, B",
        "The answer is A. Wait, the answer is B.",
        "A. Paris\nB. London\nC. New York",
        "Paris or London",
        "A. London",
        "The answer is (A) London.",
        "The answer is not B.",
        "I'd say the answer isn't B",
        "If the answer is B, then it rains",
        "It could be that the answer is B",
        "The answer is B?",
        "The answer is a bird",
        "The answer is A bird",
        "Answer: A is wrong",
        "The answer is 12 apples.",
        "E",
        "The answer is F.",
    ],
)
def test_what_is_ambiguous_or_no_choice_is_no_answer(text: str) -> None:
    found = grade(Choice(), CITIES, text)
    assert (found.right, found.answered) == (False, False)
    assert key(Choice(), CITIES, text) is None


def test_without_a_column_of_choices_letters_up_to_the_last_are_read() -> None:
    assert key(Choice(), row(answer="E"), "The answer is E.") == "E"
    assert key(Choice(), row(answer="E"), "The answer is F.") is None
    assert key(Choice(last="J"), row(answer="J"), "(J)") == "J"
    assert key(Choice(), row(answer="A"), "Paris") is None


def test_choices_that_are_the_same_are_told_apart_by_their_letters_alone() -> None:
    twice = row(choices=["x", "x", "B"], answer="A")
    assert key(Choice(), twice, "x") is None
    assert key(Choice(), twice, "A") == "A"
    assert key(Choice(), twice, "B") is None  # the letter of one, and the text of another


@pytest.mark.parametrize(
    ("columns", "right"),
    [
        ({"answer": 1, "choices": ["p", "q"]}, "B"),
        ({"answer": "(b)"}, "B"),
        ({"answer": "C", "choices": {"label": ["A", "B", "C"], "text": ["p", "q", "r"]}}, "C"),
    ],
)
def test_gold_is_a_letter_or_an_index_from_zero(columns: dict, right: str) -> None:
    assert fault(Choice(), row(**columns)) is None
    assert grade(Choice(), row(**columns), f"({right})").right


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "answer: is missing"),
        ({"answer": "F"}, 'answer: found "F", expected a letter, A to E, or the index'),
        ({"answer": 4, "choices": ["p", "q"]}, "expected a letter, A to B"),
        ({"answer": "Paris"}, "expected a letter"),
        ({"answer": True}, "expected a letter"),
        ({"answer": "A", "choices": ["p"]}, "choices: found"),
        ({"answer": "1", "choices": {"label": ["1", "2"], "text": ["p", "q"]}}, "choices: found the labels"),
    ],
)
def test_gold_that_is_no_choice_is_a_fault_with_its_column(columns: dict, said: str) -> None:
    assert said in (fault(Choice(), row(**columns)) or "")


@pytest.mark.parametrize("text", ["B", "The answer is (B) London.", "London", "because it rains: \\boxed{B}"])
def test_a_spoilt_answer_gives_another_choice(text: str) -> None:
    for seed in range(10):
        wrong = Choice().spoil(CITIES, text, random.Random(seed))
        assert wrong is not None
        assert key(Choice(), CITIES, wrong) not in (None, "B")


def test_long_texts_take_no_long_time() -> None:
    for piece in ("the answer is B. ", "(A) ", "A. x\n", "answer: ", "not ", "B or "):
        grade(Choice(), CITIES, piece * 2000)
