import random

from hypothesis import given
from hypothesis import strategies as st

from selfevo_jax.rounds.controls import plan_controls, spoil
from selfevo_jax.sample import Candidate, Feedback, Rollout
from selfevo_jax.text import extract_answer


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_spoilt_answer_gives_another_number(value: int, seed: int) -> None:
    wrong = spoil(f"The answer is {value}.", random.Random(seed), "other")
    assert extract_answer(wrong) not in (None, value)


def test_an_answer_without_a_number_is_replaced_by_that_of_another_prompt() -> None:
    assert spoil("Paris", random.Random(0), "London") == "London"


def test_controls_are_made_of_what_the_critic_called_good() -> None:
    def row(name: str, good: bool) -> Rollout:
        feedback = Feedback("f", "stop", good, None)
        return Rollout(name, 0, name, (Candidate(f"The answer is {len(name)}.", "stop", (1, 2, 3), feedback),), 0)

    planned = plan_controls([row("bad", False), row("good1", True), row("good2", True)], 2, 0)
    assert [r.id for r, _ in planned] == ["good1", "good2"]
    assert all(text != r.candidates[0].text for r, text in planned)
