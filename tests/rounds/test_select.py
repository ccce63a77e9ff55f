"""The filter keeps what the model's own feedback lets through, and says what became of the rest."""

import pytest

from selfevo_jax.errors import EmptySelectionError
from selfevo_jax.rounds.select import require, select
from selfevo_jax.sample import Candidate, Feedback, Rollout


def candidate(text: str, good: bool | None, finish: str = "stop") -> Candidate:
    return Candidate(text, finish, (1, 2, 3), Feedback("words", "stop", good, None))


def rollout(name: str, *candidates: Candidate, chosen: int = 0, prompt: str | None = None) -> Rollout:
    return Rollout(name, 0, prompt or f"prompt {name}", candidates, chosen)


def test_only_finished_rows_called_good_pass() -> None:
    rows = [
        rollout("a", candidate("The answer is 1.", True)),
        rollout("b", candidate("The answer is 2.", False)),
        rollout("c", candidate("The answer is", True, finish="length")),
        rollout("d", candidate("The answer is 4.", None)),
        rollout("e", candidate("The answer is 5.", False), candidate("The answer is 6.", True), chosen=1),
        Rollout("f", 0, "too long", (Candidate("", "error", ()),), 0, error="too long"),
    ]
    found = select(rows, "feedback", 0)
    assert [r.id for r in found.kept] == ["a", "e"]
    c = found.counts
    assert (c.sampled, c.failed, c.clipped, c.unparseable) == (6, 1, 1, 1)
    assert (c.judged_good_first, c.refined, c.judged_good, c.kept) == (2, 1, 2, 2)


def test_the_same_prompt_with_the_same_answer_is_kept_once() -> None:
    rows = [rollout(name, candidate("The answer is 1.", True), prompt="same") for name in "abc"]
    found = select(rows, "feedback", 0)
    assert found.counts.duplicates == 2
    assert len(found.kept) == 1


def test_a_random_filter_keeps_as_many_as_feedback_would_but_blindly() -> None:
    rows = [rollout(f"{i:02}", candidate(f"The answer is {i}.", i % 4 == 0)) for i in range(40)]
    by_feedback, blind = select(rows, "feedback", 7), select(rows, "random", 7)
    assert blind.counts.kept == by_feedback.counts.kept == 10
    assert {r.id for r in blind.kept} != {r.id for r in by_feedback.kept}
    assert select(rows, "random", 7) == blind
    assert select(rows[::-1], "random", 7).kept == blind.kept


def test_no_filter_still_drops_clipped_answers() -> None:
    rows = [rollout("a", candidate("The answer is 1.", False)), rollout("b", candidate("The", False, finish="length"))]
    assert [r.id for r in select(rows, "none", 0).kept] == ["a"]


def test_what_ran_on_is_counted_and_a_cut_answer_without_a_token_is_not_kept() -> None:
    rows = [
        rollout("a", candidate("The answer is 1.", True, finish="cut")),
        rollout("b", Candidate("1", "cut", (), Feedback("words", "cut", True, None))),
        rollout("c", Candidate("The answer is 2.", "stop", (1,), Feedback("words", "cut", False, None))),
    ]
    found = select(rows, "feedback", 0)
    assert [r.id for r in found.kept] == ["a"]
    counts = found.counts
    assert (counts.cut, counts.run_on_feedback, counts.empty, counts.clipped) == (2, 2, 1, 0)


def test_an_empty_kept_set_stops_with_the_counts() -> None:
    found = select([rollout("a", candidate("The answer is 1.", False))], "feedback", 0)
    with pytest.raises(EmptySelectionError, match=r"round 2: 0 of 1 rows passed.*weights are untouched"):
        require(found, 1, 2)
