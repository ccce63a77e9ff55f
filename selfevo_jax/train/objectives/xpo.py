"""DPO that looks further: what the start itself would say is made a little less likely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from selfevo_jax.train.objectives.base import REFERENCE, Targets
from selfevo_jax.train.objectives.checks import check
from selfevo_jax.train.objectives.pairs import SIDE, Dpo

OF_REFERENCE = "of_reference"
"""The extra that says whether an answer of a pair was drawn from the reference (1), or from the model (0)."""


@dataclass(frozen=True)
class Xpo(Dpo):
    """-log sigmoid(beta h) + alpha s of the answer of a pair that the reference gave, better or worse. Source: Xie et
    al. (exploratory preference optimization), arXiv 2405.21046."""

    alpha: float = 1e-5
    """s is a sum over tokens: near 0.1 this term is all that is left of the loss."""

    name: ClassVar[str] = "xpo"
    reads: ClassVar[tuple[str, ...]] = (SIDE, OF_REFERENCE, REFERENCE)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.name, "alpha", self.alpha, 0, least=True)

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        total, count = super().loss(logps, targets)
        found = targets.sequences(logps)
        drawn = found.there * (found.extras[SIDE] != 0) * found.extras[OF_REFERENCE]
        return total + self.alpha * (drawn * found.logps).sum(), count
