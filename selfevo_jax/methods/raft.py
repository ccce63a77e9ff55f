"""Best of n: of several samples of a prompt the one that scores best is learnt.

Source: Dong et al., "RAFT: Reward rAnked FineTuning", arXiv 2304.06767 (its `local` ranking; its `top`, over the whole
round, is `self_refine` with `judge.top_share`). The score is the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfevo_jax.methods.self_refine import SelfRefine


@dataclass(frozen=True)
class Raft(SelfRefine):
    """As `self_refine`, from the checkpoint before on, without refinements; the filter is a rank among the samples of a
    prompt."""

    name: str = "raft"
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns", "rounds.select")
