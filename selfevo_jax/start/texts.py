"""How long a run's texts are, in tokens of its model: prompts, and what D_meta has of each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeVar

from selfevo_jax.config import Config
from selfevo_jax.data import MetaRow
from selfevo_jax.plan.lengths import Lengths
from selfevo_jax.text import PromptFormat
from selfevo_jax.text.tokenizer import BaseTokenizer

T = TypeVar("T")
MEASURED = 2000
"""Texts of a kind that are looked at, spread evenly."""


@dataclass(frozen=True)
class Spread:
    """Token counts, sorted."""

    counts: tuple[int, ...]

    @classmethod
    def of(cls, counts: Iterable[int]) -> Spread | None:
        """None where there are none."""
        found = tuple(sorted(counts))
        return cls(found) if found else None

    def at(self, share: float) -> int:
        """The least count that so large a share of the texts does not pass."""
        return self.counts[max(0, math.ceil(share * len(self.counts)) - 1)]

    @property
    def mean(self) -> int:
        return round(fmean(self.counts))

    def __str__(self) -> str:
        return f"{self.at(0.5)} tokens in the middle, {self.at(0.95)} at 95 %, {self.counts[-1]} at most"


@dataclass(frozen=True)
class Texts:
    """Of a run's kinds of text; None where none are there."""

    prompt: Spread
    """With all that stands around it."""
    response: Spread | None
    feedback: Spread | None
    refinement: Spread | None
    instruction: int
    """Of what asks for feedback or a refinement, the longer one."""

    def expected(self, config: Config) -> Lengths:
        """Of a chain whose texts are as long as D_meta's, or half as long as they may be where there is none."""
        most = self.at_most(config)

        def usual(spread: Spread | None, limit: int) -> int:
            return min(limit, spread.mean) if spread is not None else math.ceil(limit / 2)

        return replace(
            most,
            respond=usual(self.response, most.respond),
            feedback=usual(self.feedback, most.feedback),
            refine=usual(self.refinement, most.refine),
        )

    def at_most(self, config: Config) -> Lengths:
        """Of a chain whose texts are as long as they may be."""
        return replace(Lengths.of(config, self.prompt.mean), instruction=self.instruction)


def measure_texts(
    prompts: Sequence[str], meta: Sequence[MetaRow], format: PromptFormat, tokenizer: BaseTokenizer
) -> Texts:
    """`prompts` must not be empty."""

    def written(field: Callable[[MetaRow], str]) -> Spread | None:
        return Spread.of(len(tokenizer.encode_run(field(row), prefix=False)) + len(format.end) for row in thinned(meta))

    found = Spread.of(len(format.respond(prompt)) for prompt in thinned(prompts))
    assert found is not None
    return Texts(
        found,
        written(lambda row: row.response),
        written(lambda row: row.feedback),
        written(lambda row: row.refinement),
        max(len(format.judge([])), len(format.refine([]))),
    )


def thinned(items: Sequence[T]) -> Sequence[T]:
    """MEASURED of them at most, spread evenly."""
    return [items[at * len(items) // MEASURED] for at in range(MEASURED)] if len(items) > MEASURED else items
