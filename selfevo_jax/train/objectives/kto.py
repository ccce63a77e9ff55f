"""KTO: single answers, each called good or bad, up or down against the parameters at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from selfevo_jax.train.objectives.base import REFERENCE, Targets
from selfevo_jax.train.objectives.checks import check

VERDICT, MISMATCHED = "verdict", "mismatched"
"""Extras: 1 a good answer, -1 a bad one, 0 neither; and 1 for an example that is not learnt: a prompt with the answer
to another one."""


@dataclass(frozen=True)
class Kto:
    """1 - sigmoid(beta (d - z)) of a good answer, 1 - sigmoid(beta (z - d)) of a bad one, a mean over answers. Source:
    Ethayarajh et al., arXiv 2402.01306.

    d is an answer's log-probability less its reference. z is an estimate of how far the model has gone from its start:
    the mean of d over the mismatched examples of the micro-batch, on all devices, and 0 at least; 0 where there are
    none. It has no gradient. It alone makes the loss depend on the number of micro-batches. Examples with `verdict` 0
    that are not mismatched are learnt as they are, by their mean -log-probability, and count as an answer each.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    """Of good answers."""
    undesirable_weight: float = 1.0
    """Of bad answers. Weight times number of the good ones is best kept between that of the bad ones and 4/3 of it."""

    name: ClassVar[str] = "kto"
    reads: ClassVar[tuple[str, ...]] = (VERDICT, MISMATCHED, REFERENCE)
    linear: ClassVar[bool] = False
    shows: ClassVar[tuple[str, ...]] = ("good_gain", "bad_gain")
    """Mean d of the good answers, and of the bad ones."""

    def __post_init__(self) -> None:
        check(self.name, "beta", self.beta, 0)
        check(self.name, "desirable_weight", self.desirable_weight, 0)
        check(self.name, "undesirable_weight", self.undesirable_weight, 0)

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        found = targets.sequences(logps)
        gain, verdict, apart = found.logps - found.extras[REFERENCE], found.extras[VERDICT], found.extras[MISMATCHED]
        pairs = found.there * apart
        strayed = jnp.maximum(targets.over_all(pairs * gain) / jnp.maximum(targets.over_all(pairs), 1.0), 0.0)
        weight = jnp.where(verdict > 0, self.desirable_weight, self.undesirable_weight)
        judged, alone = found.there * (verdict != 0), found.there * (verdict == 0) * (1 - apart)
        by_answer = weight * (1 - jax.nn.sigmoid(self.beta * verdict * (gain - strayed)))
        return (judged * by_answer + alone * found.mean_nll).sum(), (judged + alone).sum()

    def figures(self, logps: jax.Array, targets: Targets) -> jax.Array:
        """Of `shows`, over answers."""
        found = targets.sequences(logps)
        gain, verdict = found.logps - found.extras[REFERENCE], found.extras[VERDICT]
        sides = [found.there * (verdict > 0), found.there * (verdict < 0)]
        return jnp.stack([jnp.stack([(side * gain).sum(), side.sum()]) for side in sides])
