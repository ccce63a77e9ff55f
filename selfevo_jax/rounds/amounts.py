"""Whether a run has enough rows to teach and to show anything, before it is begun."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from selfevo_jax.config import Config

LEAST_EVALUATED = 50
"""Rows of a set, below which a share of them has a standard error of more than 7 points."""
LEAST_ANSWERS = 32
"""Answers of a round: no shipped config learns from fewer."""


def little_notices(config: Config, prompts: int, sets: Mapping[str, int]) -> Iterator[str]:
    """A line for each of the rounds' prompts and the evaluation sets that are few, with what that means.

    Args:
      prompts: given to the first round.
      sets: rows of each evaluation set.
    """
    data = config.data
    answers = (prompts + data.to_write(1)) * data.samples_per_prompt
    if config.rounds.number > 0 and answers < LEAST_ANSWERS:
        yield (
            f"a round has {answers} answers (data.samples_per_prompt {data.samples_per_prompt}), and learns from some "
            f"of them: with fewer than {LEAST_ANSWERS} it shows that all works, and teaches little. Give more prompts, "
            "or raise data.prompts_per_round or data.samples_per_prompt"
        )
    for name, rows in sets.items():
        if 0 < rows < LEAST_EVALUATED:
            yield (
                f"evaluation set '{name}' has {rows} rows: one of them is {100 / rows:.1f} points, a percentage has a "
                f"standard error of up to {50 / math.sqrt(rows):.1f} points, and a change of less than about twice "
                f"that is noise. Measure on {LEAST_EVALUATED} rows or more"
            )
