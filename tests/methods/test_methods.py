"""What each method asks about a prompt, keeps and learns from."""

from types import SimpleNamespace

import pytest

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods import BASE, open_method

BASE_CONFIG = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}}


def method(name="self_refine", **sections):
    return open_method(parse_config({**BASE_CONFIG, "method": {"name": name}, **sections}))


def row(id, good):
    return Rollout(
        id, 0, f"prompt {id}", (Candidate(id, "stop", (5, ord(id)), Feedback("f", "stop", good, None), (2,)),), 0
    )


def made(rounds):
    """What a run has made: rollouts of each round, no D_meta."""
    layout = SimpleNamespace(
        respond=lambda prompt: [1, *map(ord, prompt)], end=(2,), ends=lambda end: tuple(end) == (2,)
    )
    return SimpleNamespace(
        format=layout, rollouts=lambda round: rounds[round], meta_rows=lambda: [], qa_rows=lambda: []
    )


def asked(found, batch=None):
    bench = SimpleNamespace(chain=lambda row, stages, **how: how, batch=batch)
    return found.chain(bench, None, None, round=2, sample=1)


def test_a_judge_that_compares_has_every_response_refined_also_one_called_good() -> None:
    stops = [asked(method(), SimpleNamespace(compares=it))["stop_when_good"] for it in (False, True)]
    assert (asked(method())["stop_when_good"], *stops) == (True, True, False)
    with pytest.raises(ConfigError, match=r"judge.batch: found scorer, but self_training does not read it"):
        method("self_training", judge={"batch": {"kind": "scorer"}})


def test_self_training_asks_for_no_feedback_and_keeps_what_feedback_would_not() -> None:
    plain, refine = method("self_training"), method()
    assert (asked(plain)["judge"], asked(refine)["judge"]) == (False, True)
    assert (plain.judges, plain.filters, refine.judges, refine.filters) == (False, False, True, True)
    rows = [row("a", True), row("b", False), row("c", None)]
    assert [r.id for r in plain.select(rows, 1).kept] == ["a", "b", "c"]
    assert [r.id for r in refine.select(rows, 1).kept] == ["a"]


@pytest.mark.parametrize(
    ("variant", "start", "ids"),
    [("restart", BASE, {"a", "b"}), ("continual_mixed", 1, {"b"}), ("continual_self_only", 1, {"b"})],
)
def test_a_variant_says_where_learning_starts_and_which_rounds_it_learns_from(variant, start, ids) -> None:
    found = method(rounds={"variant": variant})
    lesson = found.learning(made({1: [row("a", True)], 2: [row("b", True)]}), 2)
    assert lesson.start == start
    assert found.keeps_base == (start == BASE)
    assert {example.id for example in lesson.groups["self"]} == {f"{id}/0" for id in ids}
    assert lesson.notices == ()


def test_the_same_rollouts_give_the_same_lesson_whenever_it_is_asked_for() -> None:
    history = made({1: [row(id, True) for id in "abcdefgh"]})
    first, again = (method(rounds={"select": "random"}).learning(history, 1) for _ in range(2))
    assert [e.id for e in first.groups["self"]] == [e.id for e in again.groups["self"]]
