"""What a model only thinks before its answer is no answer, whatever scorer reads it."""

import random

import pytest
from scorer_helpers import grade, key, row

from selfevo_jax.scorers import math, number
from selfevo_jax.scorers.choice import Choice
from selfevo_jax.scorers.number import Number
from selfevo_jax.text import cut_run_on

THOUGHT = "<think>Is the answer 5? The answer is 5.\n\nQuestion: is it? The answer is B.</think>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>The answer is 5", None),
        (f"{THOUGHT} I do not know.", None),
        (f"{THOUGHT} The answer is 6.", 6),
        ("it may be \\boxed{5}</think>\n6", 6),
        # what an invented next question thinks is not before the answer
        ("#### 7\n\nQuestion: 4 + 5?\n<think>4 + 5 = 9</think> #### 9", 7),
        ("#### 7\n<think>check</think> #### 8", 7),
        ("The answer is 7.\n<think>check</think> The answer is 8.", 8),
        # nor is what comes behind all of the answer
        ("<answer>7</answer>\n<reasoning>3 + 4 = 7, and the answer is not 8</reasoning>\n", 7),
        ("Let me see.\n<think>The answer is 5.</think>", None),
    ],
)
def test_a_number_is_read_behind_the_thinking(text: str, said: int | None) -> None:
    assert key(Number(), row(), text) == said
    assert grade(Number(), row(answer=said or 5), text).right is (said is not None)
    assert key(Number(), row(), cut_run_on(text)) == said


def test_a_run_on_is_cut_behind_the_thinking_and_nothing_in_it() -> None:
    whole = f"{THOUGHT} #### 6"
    assert cut_run_on(f"{whole}\n\nQuestion: 4 + 5?") == whole
    endless = THOUGHT.removesuffix("</think>")
    assert cut_run_on(endless) == endless


def test_gold_and_the_thinking_of_a_spoilt_answer_stay_as_they_are() -> None:
    assert grade(Number(), row(answer="<think>3 + 5\n#### 8"), "8").right
    wrong = number.spoil(f"{THOUGHT} The answer is 6.", random.Random(0))
    assert wrong is not None
    assert wrong.startswith(THOUGHT)
    assert key(Number(), row(), wrong) not in (None, 6)
    before = number.spoil("6 <thought>2 + 4</thought>", random.Random(0))
    assert before is not None
    assert before.endswith(" <thought>2 + 4</thought>")
    assert key(Number(), row(), before) not in (None, 6)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("<think>The answer is B", None),
        (f"{THOUGHT}\nC", "C"),
        (f"{THOUGHT}\nI do not know.", None),
        ("B\n\nQuestion: And now?\n<think>hm</think>\nC", "B"),
        ("B\n<reasoning>It cannot be C.</reasoning>", "B"),
    ],
)
def test_a_choice_is_read_behind_the_thinking(text: str, letter: str | None) -> None:
    assert key(Choice(), row(answer="B"), text) == letter


def test_an_expression_is_read_behind_the_thinking_and_what_fails_is_not_scored(monkeypatch) -> None:
    shown = []
    found = {"read": None, "right": None, "failed": False}
    monkeypatch.setattr(math.Math, "_asked", lambda self, asked: [shown.append(asked[0]["text"]) or found])
    for text in ("<think>$2$", "<think>$2$</think>$3$"):
        assert not grade(math.Math(), row(answer="2"), text).answered
        key(math.Math(), row(), text)
    assert shown == ["", "", "$3$", "$3$"]
    found["failed"] = True
    failed = grade(math.Math(), row(answer="2"), "$3$")
    assert (failed.value, failed.answered) == (None, True)
