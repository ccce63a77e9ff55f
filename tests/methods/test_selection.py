"""The filter keeps what the model's own feedback lets through, and says what became of the rest."""

from dataclasses import replace

import pytest

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import RoundsSection
from selfevo_jax.errors import EmptySelectionError
from selfevo_jax.methods.scored import best_of_n
from selfevo_jax.methods.selection import require, select, weakness
from selfevo_jax.rounds.limits import not_run
from selfevo_jax.sample import SamplingSection


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


def samples(prompt: str, texts: list[str], good: bool = True) -> list[Rollout]:
    return [Rollout(prompt, n, prompt, (candidate(text, good),), 0) for n, text in enumerate(texts)]


def test_an_easy_prompt_gives_no_more_rows_than_the_cap_and_the_rest_is_counted() -> None:
    rows = [*samples("easy", [f"So {i}." for i in (1, 1, 2, 3, 4, 5, 6, 6)]), *samples("hard", ["So 9."])]
    found = select(rows, "feedback", 0, per_prompt=4)
    assert [(r.id, r.sample) for r in found.kept] == [("easy", 0), ("easy", 2), ("easy", 3), ("easy", 4), ("hard", 0)]
    assert (found.counts.kept, found.counts.duplicates, found.counts.over_cap) == (5, 1, 3)
    assert select(rows[::-1], "feedback", 0, per_prompt=4).kept == found.kept
    everything = select(rows, "feedback", 0)
    assert (everything.counts.kept, everything.counts.duplicates, everything.counts.over_cap) == (7, 2, 0)


def test_rows_of_one_prompt_under_several_ids_share_its_cap() -> None:
    rows = [rollout(name, candidate(f"So {name}.", True), prompt="same") for name in "abcdef"]
    assert len(select(rows, "feedback", 0, per_prompt=2).kept) == 2


def test_a_random_filter_keeps_as_many_as_feedback_would_under_the_cap_too() -> None:
    rows = [r for i in range(20) for r in samples(f"{i:02}", [f"So {n}." for n in range(8)], good=i % 4 == 0)]
    by_feedback, blind = (select(rows, policy, 3, per_prompt=2) for policy in ("feedback", "random"))
    assert by_feedback.counts.kept == blind.counts.kept == 10
    assert {r.prompt for r in blind.kept} != {r.prompt for r in by_feedback.kept}


def test_a_weak_round_is_named_with_its_counts() -> None:
    unread = [rollout(f"u{i}", candidate("The answer is 1.", None)) for i in range(18)]
    weak = select([*unread, *samples("a", ["So 1."]), *samples("b", ["So 2."], good=False)], "feedback", 0)
    assert "1 of 20 rows passed the filter" in str(weakness(weak.counts, filtered=True))
    assert "unparseable feedback 18" in str(weakness(weak.counts, filtered=True))
    fine = select([*unread[:4], *(r for i in range(16) for r in samples(f"{i}", ["So 1."]))], "feedback", 0)
    assert weakness(fine.counts, filtered=True) is None
    assert weakness(select(unread, "none", 0).counts, filtered=False) is None


def test_a_round_is_not_weak_by_rows_that_no_prompt_may_keep() -> None:
    section = RoundsSection(select="best_of_n")
    rows = [r for name in "abcde" for r in samples(name, [f"So {n}." for n in range(16)])]
    found = select(rows, "best_of_n", 0, None, None, lambda rows: best_of_n(rows, section.keep))
    assert (found.counts.kept, found.counts.sampled) == (5, 80)
    assert weakness(found.counts, True, section.most_of_prompt(16) / 16) is None
    few = select(rows[:16], "best_of_n", 0, None, None, lambda rows: best_of_n(rows, section.keep))
    assert weakness(replace(few.counts, sampled=320), True, section.most_of_prompt(16) / 16) is not None


@pytest.mark.parametrize(
    ("rows", "remedy"),
    [
        ([Rollout(n, 0, n, (Candidate("", "error", ()),), 0, error="too long") for n in "abc"], "raise sampling.cache"),
        ([rollout(n, candidate("The answer is 1.", None)) for n in "abc"], "sampling.feedback.max_new_tokens"),
        (
            [rollout(n, candidate("The answer", True, finish="length")) for n in "abc"],
            "sampling.respond.max_new_tokens",
        ),
        ([rollout(n, candidate("The answer is 1.", False)) for n in "abc"], "data.prompts_per_round"),
    ],
)
def test_an_empty_round_names_what_lost_most_rows_and_the_way_on(rows: list[Rollout], remedy: str) -> None:
    lost = not_run(rows, SamplingSection(cache_length=64))
    with pytest.raises(EmptySelectionError, match=rf"0 of 3 rows.*{remedy}.* `selfevo fork x`$") as caught:
        require(select(rows, "feedback", 0), 8, 1, lost, "`selfevo fork x`")
    assert ("3 of 3 rows could not be run; sampling.cache_length is 64" in str(caught.value)) == (lost is not None)


def test_a_round_short_of_its_minimum_blames_no_cause_of_the_fewest_rows() -> None:
    rows = [*samples("a", ["So 1."]), *(rollout(f"b{i}", candidate(f"So {i}.", False)) for i in range(5))]
    found = select([*rows, rollout("c", candidate("So 2.", None))], "feedback", 0)
    with pytest.raises(
        EmptySelectionError, match=r"1 of 7 rows.*lower rounds.minimum_kept.*meta.steps, with --from base"
    ):
        require(found, 4, 1)
