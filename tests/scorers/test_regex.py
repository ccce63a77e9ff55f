"""Answers that a pattern finds, in bounded time."""

import os
import time

import pytest
from pydantic import ValidationError
from scorer_helpers import grade, key, row

from selfevo_jax.scorers import workers as workers_module
from selfevo_jax.scorers.regex import Regex


def test_the_group_of_the_last_match_is_compared_with_the_gold_texts() -> None:
    scorer = Regex(pattern=r"ANSWER:\s*(.*)", articles=False)
    found = scorer.grades(
        [row(answer=["Rome", "Roma"])] * 5,
        ["ANSWER: Paris\nANSWER:  the  ROMA", "ANSWER: Paris", "rome", "ANSWER: ", "ANSWER: Rome\nANSWER:"],
    )
    assert [(g.right, g.answered) for g in found] == [
        (True, True),
        (False, True),
        (False, False),
        (False, False),
        (False, False),
    ]
    assert key(scorer, row(), "ANSWER: the Rome") == "rome"
    assert key(scorer, row(), "rome") is None


def test_a_named_group_is_the_answer_among_several() -> None:
    scorer = Regex(pattern=r"(is|are) (?P<answer>\d+)")
    assert grade(scorer, row(answer=7), "they are 7").right


@pytest.mark.parametrize("pattern", ["(", "x", "(a)(b)", "(?P<word>a)(b)"])
def test_a_pattern_without_one_group_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match="found"):
        Regex(pattern=pattern)


def test_a_text_on_which_the_pattern_takes_for_ever_is_not_scored_and_the_others_are(monkeypatch) -> None:
    monkeypatch.setattr(workers_module, "MOST_LATE", 2)
    scorer = Regex(pattern=r"((?:a|aa)+)$", seconds=0.2)
    begun = time.monotonic()
    bad, good = "a" * 60 + "b", "aaa"
    found = scorer.grades([row(answer="aaa")] * 5, [good, bad, good, bad, good])
    assert [g.value for g in found] == [1.0, None, 1.0, None, None]  # after two no further one is tried
    assert scorer.keys([row()] * 2, [bad, good]) == [None, "aaa"]
    assert time.monotonic() - begun < 10


def test_patterns_run_in_a_process_of_their_own(tmp_path) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        "import json, os, sys\nprint('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    if asked['n'] == 1: os._exit(3)\n"
        "    print(json.dumps([asked['n'], os.getpid()]), flush=True)\n"
    )
    found = workers_module.Workers(script, 1).map([{"n": n} for n in range(4)], 30.0)
    assert found[1] is workers_module.Late.LATE  # a process that ends gives no answer, and another one goes on
    assert [one[0] for one in (found[0], *found[2:])] == [0, 2, 3]
    assert os.getpid() not in {one[1] for one in (found[0], *found[2:])}
