"""Pairs without a reference: what is to be likelier is measured by the model alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from selfevo_jax.train.objectives.checks import check, check_flag
from selfevo_jax.train.objectives.pairs import SIDE, Answers, PairObjective


@dataclass(frozen=True)
class Cpl(PairObjective):
    """-log sigmoid(beta s of the better answer - worse_weight beta s of the worse one). Source: Hejna et al.
    (contrastive preference learning), arXiv 2310.13639. Nothing holds the model at its start: `nll_weight` above 0
    keeps the better answers likely."""

    worse_weight: float = 0.5
    """Of the worse answer: below 1 it holds the model to the answers that it is shown."""
    by_token: bool = False
    """Means over tokens in place of sums, in which long answers weigh more than anything that they say."""

    name: ClassVar[str] = "cpl"
    reads: ClassVar[tuple[str, ...]] = (SIDE,)
    shows: ClassVar[tuple[str, ...]] = ("better_logp", "worse_logp")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.name, "worse_weight", self.worse_weight, 0)
        check_flag(self.name, "by_token", self.by_token)

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        up, down = (x.mean_gain if self.by_token else x.gain for x in (better, worse))
        return -jax.nn.log_sigmoid(self.beta * (up - self.worse_weight * down))
