"""First responses that nobody judges: what methods without feedback have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.chains import Rollout
from selfevo_jax.methods.selection import Selection, select
from selfevo_jax.methods.self_refine import SelfRefine


@dataclass(frozen=True)
class Unjudged(SelfRefine):
    """Whole first responses are kept, whatever they say."""

    @property
    def reads(self) -> dict[str, str]:
        return {"rounds.per_prompt": "", **self.replay_reads}

    @property
    def judges(self) -> bool:
        return False

    @property
    def filters(self) -> bool:
        return False

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        return select(rollouts, "none", self.config.seed_of(round), self.config.rounds.per_prompt)
