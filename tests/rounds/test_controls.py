import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import RoundsSection
from selfevo_jax.data import EvaluationRow
from selfevo_jax.rounds.controls import judge_planted, plan_controls
from selfevo_jax.scorers.choice import Choice
from selfevo_jax.scorers.number import Number, spoil
from selfevo_jax.text import extract_answer


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_spoilt_answer_gives_another_number(value: int, seed: int) -> None:
    wrong = spoil(f"The answer is {value}.", random.Random(seed))
    assert wrong is not None
    assert extract_answer(wrong) not in (None, value)


@pytest.mark.parametrize(
    "text",
    [
        "5 apples (as in step 2)",
        "5 apples, see step 2.",
        "#### 5\n(16 lines above)",
        "The answer is 5. It took 3 steps.",
        "1,000",
        "2.50",
        "The answer is 5 because x = 3",
    ],
)
def test_the_number_that_is_changed_is_the_answer(text: str) -> None:
    for seed in range(20):
        wrong = spoil(text, random.Random(seed))
        assert wrong is not None
        assert extract_answer(wrong) not in (None, extract_answer(text)), wrong


@pytest.mark.parametrize("text", ["Paris", "Yes, in step 2.", "", "9" * 5000])
def test_an_answer_without_a_number_is_not_spoilt(text: str) -> None:
    assert spoil(text, random.Random(0)) is None


def answered(*texts: str) -> list[Rollout]:
    return [Rollout(f"p{i}", 0, "p", (Candidate(text, "stop", (1,)),), 0) for i, text in enumerate(texts)]


def test_an_answer_without_a_number_is_replaced_by_one_that_reads_differently() -> None:
    planned = plan_controls(answered("Paris", "paris.", "London"), 3, 0, Number())
    assert [(r.id, wrong) for r, wrong in planned] == [("p0", "London"), ("p1", "London"), ("p2", "Paris")]


def test_where_no_wrong_answer_is_known_none_is_planted() -> None:
    assert plan_controls(answered("Yes", "yes.", " Yes"), 3, 0, Number()) == []
    one_prompt = [Rollout("p", i, "p", (Candidate(text, "stop", (1,)),), 0) for i, text in enumerate(("Paris", "Rome"))]
    assert plan_controls(one_prompt, 2, 0, Number()) == []
    assert [r.id for r, _ in plan_controls(answered("Yes", "Yes", "The answer is 5."), 3, 0, Number())] == [
        "p0",
        "p1",
        "p2",
    ]


def test_controls_are_made_of_what_the_critic_called_good() -> None:
    def row(name: str, good: bool) -> Rollout:
        feedback = Feedback("f", "stop", good, None)
        return Rollout(name, 0, name, (Candidate(f"The answer is {len(name)}.", "stop", (1, 2, 3), feedback),), 0)

    planned = plan_controls([row("bad", False), row("good1", True), row("good2", True)], 2, 0, Number())
    assert [r.id for r, _ in planned] == ["good1", "good2"]
    assert all(text != r.candidates[0].text for r, text in planned)


def test_a_planted_answer_whose_feedback_cannot_be_read_is_no_answer_that_the_critic_rejects() -> None:
    rows = [{"good": True}] * 6 + [{"good": None}] * 26
    heard: list[str] = []
    loop: Any = SimpleNamespace(
        config=SimpleNamespace(rounds=RoundsSection()),
        dir=SimpleNamespace(
            round=lambda *name: Path("controls.json"), load=lambda _: {"rows": 32, "passed": 6, "controls": rows}
        ),
        method=SimpleNamespace(judges=True),
        reporter=SimpleNamespace(warn=heard.append),
    )
    assert judge_planted(loop, 1, []) == {"rows": 32, "passed": 6, "unread": 26}
    assert heard == [
        "round 1: the critic calls 6 of 6 planted wrong answers good (100%); its filter does not discriminate; 26 more "
        "have feedback that cannot be read"
    ]


def test_where_answers_are_choices_another_choice_is_planted() -> None:
    planned = plan_controls(answered("The answer is B.", "(C)"), 2, 0, Choice(last="C"))
    bare = [EvaluationRow(r.id, r.prompt) for r, _ in planned]
    read = Choice(last="C").keys(bare, [wrong for _, wrong in planned])
    assert None not in read
    assert read[0] != "B"
    assert read[1] != "C"
