"""Chain of hindsight: sequences of a worse and a better answer, each behind words that say which it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from selfevo_jax.train.objectives.base import Targets


@dataclass(frozen=True)
class Hindsight:
    """The mean of -log-probability over the targets of an example, by their weights, and of that over examples. What
    it is made of is the work of `hindsight_example`. Source: Liu et al., arXiv 2302.02676."""

    name: ClassVar[str] = "hindsight"
    reads: ClassVar[tuple[str, ...]] = ()
    linear: ClassVar[bool] = True

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        found = targets.sequences(logps)
        return found.mean_nll.sum(), found.there.sum()
