"""Functions of the user's with TRL's reward signature."""

import sys

import pytest
from scorer_helpers import fault, key

from selfevo_jax.data import EvaluationRow
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.scorers.python import Python

ROWS = [EvaluationRow(f"r{n}", f"p{n}", {"truth": n, "hint": "h"}) for n in range(3)]
TEXTS = ["0", "x", "2"]

SOURCE = """
def right(prompts, completions, truth, **kwargs):
    assert prompts == [f"p{t}" for t in truth] and kwargs["hint"] == ["h"] * len(truth)
    return [float(c == str(t)) for c, t in zip(completions, truth)]

def some(completions, **kwargs):
    return [None if c == "x" else 0.5 for c in completions]

async def later(completions, log_extra=None, **kwargs):
    return [1 for _ in completions]

def no_more(completions, truth):
    return [True for _ in truth]

def chat(prompts, completions, **kwargs):
    return [float(c[0]["content"] == "0" and p[0]["role"] == "user") for p, c in zip(prompts, completions)]

def fails(completions, truth, **kwargs):
    return [1 / t for t in truth]

def short(completions, **kwargs): return [1.0]
def high(completions, truth, **kwargs): return [1.0 if t else 7.0 for t in truth]
def none(completions, **kwargs): return None
def words(completions, **kwargs): return ["good"] * len(completions)
def nan(completions, **kwargs): return [float("nan")] * len(completions)
def ids(completions, completion_ids, **kwargs): return [1.0] * len(completions)
value = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "rewards_of_mine.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("rewards_of_mine", None)


def scorer(name: str, **settings) -> Python:
    found = Python(function=f"rewards_of_mine:{name}", **settings)
    found.open("data.evaluation.x.scorers.0")
    return found


@pytest.mark.parametrize(
    ("name", "settings", "values"),
    [
        ("right", {}, [1.0, 0.0, 1.0]),
        ("some", {}, [0.5, None, 0.5]),
        ("later", {}, [1.0, 1.0, 1.0]),
        ("no_more", {}, [1.0, 1.0, 1.0]),
        ("chat", {"messages": True}, [1.0, 0.0, 0.0]),
    ],
)
def test_a_function_is_given_prompts_completions_and_columns_and_gives_a_value_for_each(name, settings, values) -> None:
    assert [g.value for g in scorer(name, **settings).grades(ROWS, TEXTS)] == values


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", "rewards_of_mine:fails: fails on row 'r0': ZeroDivisionError: division by zero"),
        ("short", "rewards_of_mine:short: found 1 values for 3 rows, expected a list with one for each"),
        ("high", "rewards_of_mine:high: found 7.0 for row 'r0', expected a number from 0 to 1, or None for not scored"),
        ("none", "found null for 3 rows"),
        ("words", "found \"good\" for row 'r0'"),
        ("nan", "found NaN for row 'r0'"),
    ],
)
def test_what_is_no_list_of_values_is_one_error_with_the_function_and_the_row(name: str, said: str) -> None:
    with pytest.raises(DataError) as told:
        scorer(name).grades(ROWS, TEXTS)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("rewards_of_mine:absent", "scorers.0: 'rewards_of_mine:absent' cannot be imported .*PYTHONPATH"),
        ("no_such_module_here:f", "cannot be imported"),
        ("rewards_of_mine", "expected module:name"),
        ("rewards_of_mine:value", "is no function"),
        ("rewards_of_mine:ids", "asks for completion_ids, which an evaluation has not"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_before_any_work(function: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Python(function=function).open("data.evaluation.x.scorers.0")


def test_a_row_without_a_column_that_the_function_asks_for_is_a_fault() -> None:
    assert fault(scorer("right"), ROWS[0]) is None
    assert (fault(scorer("right"), EvaluationRow("a", "p", {"answer": 1})) or "").startswith("truth: is missing")
    renamed = scorer("right", columns={"truth": "answer"})
    assert fault(renamed, EvaluationRow("a", "p", {"answer": 1})) is None


def test_texts_that_say_the_same_vote_together() -> None:
    assert key(scorer("some"), ROWS[0], "It  is\nFive") == key(scorer("some"), ROWS[0], "it is five")
