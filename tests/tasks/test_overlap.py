"""Prompts that are held out, and those that a run is trained on."""

import pytest

from selfevo_jax.data import PromptRow
from selfevo_jax.errors import DataError
from selfevo_jax.tasks import check_held_out
from selfevo_jax.tasks.overlap import within


def rows(*prompts: str) -> list[PromptRow]:
    return [PromptRow(str(n), prompt) for n, prompt in enumerate(prompts)]


def test_a_held_out_prompt_that_is_part_of_a_longer_one_is_found_whatever_its_case_and_white_space() -> None:
    used = rows("Name  three rivers of Asia. Write in small letters.", "Say hello.")
    assert within(used, rows("name three rivers\nof asia.", "Say hello.", "SAY HELLO.")) == [
        "name three rivers of asia.",
        "Say hello.",
        "SAY HELLO.",
    ]
    # a few words may be part of anything, and no prompt goes on in the next one
    assert within(used, rows("three rivers", "small letters. Say hello.", "Name four rivers of Asia.")) == []
    assert within([], rows("Say hello.")) == []


def test_held_out_rows_that_are_trained_on_are_refused_with_the_count() -> None:
    with pytest.raises(DataError, match=r"data.ordinary.*: 1 of its 2 prompts are also in data.qa \(such as 'Say it.'"):
        check_held_out("ordinary", rows("Say it.", "Say that."), {"prompts": [], "qa": rows("say it.")})
