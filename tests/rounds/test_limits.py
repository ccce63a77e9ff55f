"""Rows that could not be run and texts that were cut are said with their counts and the key to raise."""

import pytest

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import parse_config
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError
from selfevo_jax.rounds.limits import check_first_round, clipped, not_run
from selfevo_jax.sample import SamplingSection

BASE = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}}
SAMPLING: SamplingSection = parse_config({**BASE, "sampling": {"refine": {"max_new_tokens": 9}}}).sampling


def rollout(*finishes: str, feedback: str = "stop") -> Rollout:
    said = Feedback("f", feedback, True, None)
    return Rollout("a", 0, "a", tuple(Candidate("x", finish, (1,), said) for finish in finishes), 0)


def test_more_than_a_twentieth_of_texts_cut_names_the_setting_of_their_stage() -> None:
    rows = [rollout("stop") for _ in range(38)]
    assert list(clipped([*rows, rollout("length"), rollout("length")], SAMPLING)) == []
    found = list(clipped([*rows, *[rollout("length", "stop", feedback="length")] * 3], SAMPLING))
    assert found == [
        "3 of 41 responses (7%) were cut at a limit; raise sampling.respond.max_new_tokens (now 256)",
        "6 of 44 texts of feedback (14%) were cut at a limit; raise sampling.feedback.max_new_tokens (now 256)",
    ]
    assert list(clipped([rollout("stop", "length")], SAMPLING)) == [
        "1 of 1 refinements (100%) were cut at a limit; raise sampling.refine.max_new_tokens (now 9)"
    ]


def test_texts_that_fill_the_cache_name_the_cache_and_rows_that_never_began_are_no_texts() -> None:
    error = Rollout("b", 0, "b", (Candidate("", "error", ()),), 0, error="the prompt has 600 tokens")
    assert list(clipped([rollout("cache"), error, error], SAMPLING)) == [
        "1 of 1 responses (100%) were cut at a limit; raise sampling.cache_length (now 512)"
    ]
    assert not_run([rollout("cache"), error, error], SAMPLING) == (
        "2 of 3 rows could not be run; sampling.cache_length is 512; the first: the prompt has 600 tokens"
    )
    assert not_run([rollout("cache")], SAMPLING) is None
    assert list(clipped([], SAMPLING)) == []


class Letters:
    """A format with a token for each letter."""

    def respond(self, prompt: str) -> list[int]:
        return [ord(letter) for letter in prompt]


def test_prompts_that_are_too_long_are_told_at_the_start_and_refused_where_too_few_are_left() -> None:
    def told(short: int, long: int, **rounds: int) -> str | None:
        tree = {**BASE, "sampling": {"cache_length": 4}, "rounds": {"minimum_kept": 3, **rounds}}
        rows = [PromptRow(f"l{i}", "12345") for i in range(long)] + [PromptRow(f"s{i}", "1234") for i in range(short)]
        config = parse_config({**tree, "data": {"stories": {}, "samples_per_prompt": 2}})
        return check_first_round(config, rows, Letters())  # type: ignore[arg-type]

    assert told(short=3, long=0) is None
    assert told(short=2, long=4) == (
        "4 of the 6 prompts of round 1 have more tokens than sampling.cache_length 4 (such as 'l0' with 5) and cannot "
        "be run"
    )
    with pytest.raises(ConfigError, match=r"is 3, but a round can keep 2 rows at most: 4 of the 6 prompts.*; raise s"):
        told(short=2, long=4, per_prompt=1)
    with pytest.raises(ConfigError, match=r"is 3, but a round can keep 2 rows at most: raise data.prompts_per_round"):
        told(short=1, long=0)
