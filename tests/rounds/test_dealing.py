"""Which round asks which prompts, in order of difficulty."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.config import RoundsSection, parse_config
from selfevo_jax.data import EvaluationRow, PromptRow, QARow
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.rounds import dealing
from selfevo_jax.rounds.ordinary import check_ordinary


def rows(*names):
    return [PromptRow(name, "?" * int(name)) for name in names]


def ids(found):
    return "".join(row.id for row in found)


PILE = {
    1: rows("3", "9"),
    2: rows("1", "8"),
    3: rows("5", "2"),
    4: rows("7", "4"),
    5: rows("6", "1"),
    6: rows("2", "3"),
}


@pytest.mark.parametrize(
    ("order", "asked"),
    [
        ("as_given", ["39", "18", "52", "74", "61", "23"]),
        ("easy_to_hard", ["12", "35", "89", "12", "34", "67"]),
        ("hard_to_easy", ["98", "53", "21", "76", "43", "21"]),
        ("cyclical", ["12", "35", "89", "76", "43", "21"]),
    ],
)
def test_the_prompts_of_three_rounds_are_dealt_out_in_the_order_that_is_asked_for(order, asked) -> None:
    section = RoundsSection(order=order)
    assert [ids(dealing.dealt(PILE.__getitem__, round, section)) for round in range(1, 7)] == asked


def test_difficulty_may_be_the_share_of_samples_that_failed() -> None:
    good = dict(zip("0123", (4, 1, 0, 3), strict=True))
    four = {1: rows("0", "1"), 2: rows("2", "3")}
    section = RoundsSection(order="easy_to_hard", order_rounds=2)
    dealt = [dealing.dealt(four.__getitem__, n, section, lambda row: 1 - good[row.id] / 4) for n in (1, 2)]
    assert "".join(map(ids, dealt)) == "0312"


@settings(max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9, unique=True), st.integers(1, 6), st.integers(2, 4))
def test_a_round_asks_as_many_prompts_as_before_none_twice_and_all_are_asked(pile, each, over) -> None:
    each = min(each, len(pile))

    def of(round):
        return rows(*(str(pile[(each * (round - 1) + n) % len(pile)]) for n in range(each)))

    section = RoundsSection(order="easy_to_hard", **({} if over == 3 else {"order_rounds": over}))
    asked = [dealing.dealt(of, round, section) for round in range(1, over + 1)]
    assert all(len({row.id for row in found}) == each for found in asked)
    assert {r.id for found in asked for r in found} == {r.id for n in range(1, over + 1) for r in of(n)}
    means = [sum(int(row.id) for row in found) for found in asked]
    assert means == sorted(means)


def test_gold_answers_and_given_prompts_are_those_of_the_rounds_that_are_dealt_out_together() -> None:
    tree = {"run_dir": "x", "model": {"source": "m"}, "data": {"stories": {}, "prompts_per_round": 2}}
    task = SimpleNamespace(
        prompts=PILE.__getitem__, gold=lambda n: {r.id: EvaluationRow(r.id, r.prompt, {}) for r in PILE[n]}
    )
    plain = parse_config(tree)
    ordered = parse_config({**tree, "rounds": {"order": "hard_to_easy"}})
    assert ids(dealing.given(ordered, task, 2)) == "53"
    assert set(dealing.gold_of(plain, task, 2)) == {"1", "8"}
    assert set(dealing.gold_of(ordered, task, 2)) == {"3", "9", "1", "8", "5", "2"}
    held: Any = SimpleNamespace(**vars(task), questions=lambda: None, has_meta=False, qa_rows=list)
    two, ordered_two = RoundsSection(number=2), RoundsSection(number=2, order="hard_to_easy")
    answers = [QARow("5", "?????", "!")]  # a prompt of the third round, which the second one asks in that order
    check_ordinary(answers, held, two)
    with pytest.raises(DataError, match=r"data.ordinary, field 'prompt': 1 of its 1 prompts are also in data.prompts"):
        check_ordinary(answers, held, ordered_two)
    with pytest.raises(ConfigError, match=r"rounds.order_rounds: of an order, but rounds.order is as_given"):
        parse_config({**tree, "rounds": {"order_rounds": 4}})
