"""Best of n, learnt without going far from where a round starts.

Source: Mukobi et al., "SuperHF: Supervised Iterative Learning from Human Feedback", arXiv 2310.16763. The score is the
model's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfevo_jax.methods.raft import Raft


@dataclass(frozen=True)
class SuperHf(Raft):
    """As `raft`, with the objective `sft_kl`."""

    name: str = "superhf"
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns", "rounds.select", "learn.objective.name")
