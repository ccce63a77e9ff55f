"""Which round asks which of the given prompts: as the task gives them, or by difficulty over several rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from selfevo_jax.config import Config, RoundsSection
from selfevo_jax.data import EvaluationRow, PromptRow
from selfevo_jax.tasks import Task

Difficulty = Callable[[PromptRow], float]


def length(row: PromptRow) -> float:
    """Of a prompt, in characters: what is known of its difficulty before it is asked."""
    return float(len(row.prompt))


def dealt(
    of: Callable[[int], Sequence[PromptRow]], round: int, rounds: RoundsSection, difficulty: Difficulty = length
) -> list[PromptRow]:
    """The prompts of a round, as many as `of` gives it.

    The different prompts of `rounds.order_rounds` rounds are put in order (of equal difficulty as they are given), and
    dealt out: the first of these rounds has the first ones, the last round the last ones. Where they are fewer than the
    rounds ask neighbouring rounds share some. The next rounds have an order of their own.
    """
    own = of(round)
    if rounds.order == "as_given":
        return list(own)
    cycle, place = divmod(round - 1, rounds.order_rounds)
    rows = {row.id: row for number in rounds.together(round) for row in of(number)}
    falls = rounds.order == "hard_to_easy" or (rounds.order == "cyclical" and cycle % 2 == 1)
    ordered = sorted(rows.values(), key=difficulty, reverse=falls)
    start = place * (len(ordered) - len(own)) // max(1, rounds.order_rounds - 1)
    return ordered[start : start + len(own)]


def given(config: Config, task: Task, round: int) -> list[PromptRow]:
    """The prompts of a round that the model does not write itself."""
    own = config.data.to_write(round)
    rows = dealt(task.prompts, round, config.rounds)
    return rows[: config.data.prompts_per_round - own] if own else rows


def gold_of(config: Config, task: Task, round: int) -> dict[str, EvaluationRow]:
    """Prompt id -> row, where the gold answer of a prompt that the round may ask is known."""
    return {id: row for number in config.rounds.together(round) for id, row in task.gold(number).items()}
