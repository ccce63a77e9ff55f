"""Cross-entropy that stays near its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from selfevo_jax.train.objectives.base import TOKEN_REFERENCE, Targets
from selfevo_jax.train.objectives.checks import check


def strayed(gain: jax.Array) -> jax.Array:
    """exp(-x) + x - 1 for x, the log-probability of a token less that at the start: 0 or more, and over tokens that the
    model draws the mean of it is KL(model || start). Source: Schulman, "Approximating KL divergence" (k3), 2020."""
    return jnp.exp(-gain) + gain - 1


@dataclass(frozen=True)
class SftKl:
    """-log-probability + kl_weight (exp(-x) + x - 1), the mean over the targets, by their weights; x is a target's
    log-probability less that at the start.

    Source: Mukobi et al. (SuperHF), arXiv 2310.16763, whose divergence is that of whole distributions: here it is
    estimated on the tokens that are learnt, so that no second model is needed.
    """

    kl_weight: float = 0.35

    name: ClassVar[str] = "sft_kl"
    reads: ClassVar[tuple[str, ...]] = (TOKEN_REFERENCE,)
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self.name, "kl_weight", self.kl_weight, 0, least=True)

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        by_token = -logps + self.kl_weight * strayed(logps - targets.extras[TOKEN_REFERENCE])
        return (targets.weights * by_token).sum(), targets.weights.sum()
