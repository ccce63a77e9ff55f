"""Weighted cross-entropy: what supervised fine-tuning makes small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

    from selfevo_jax.train.objectives.base import Targets


@dataclass(frozen=True)
class Sft:
    """The mean of -log-probability over the targets, by their weights."""

    name: str = "sft"
    reads: tuple[str, ...] = ()
    linear: bool = True

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        return (targets.weights * -logps).sum(), targets.weights.sum()
