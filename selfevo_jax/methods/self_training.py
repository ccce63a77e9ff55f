"""Plain self-training: the model learns its own first responses, unjudged. The baseline without feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.chains import Rollout
from selfevo_jax.config import RoundsSection
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.selection import Selection, select
from selfevo_jax.methods.self_refine import SelfRefine


@dataclass(frozen=True)
class SelfTraining(SelfRefine):
    """As `self_refine`, without feedback, refinement and filter. Raises ConfigError for settings of these."""

    name: str = "self_training"

    def __post_init__(self) -> None:
        for key in ("turns", "select", "pass_rate"):
            found, usual = getattr(self.config.rounds, key), RoundsSection.model_fields[key].default
            if found != usual:
                told = f"found {found}, but {self.name} has no feedback; set it to {usual}, or leave it out"
                raise ConfigError(f"rounds.{key}: {told}")
        if self.config.judge.batch is not None:
            raise ConfigError(f"judge.batch: {self.name} has no judge; set it to null")

    @property
    def judges(self) -> bool:
        return False

    @property
    def filters(self) -> bool:
        return False

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        return select(rollouts, "none", self.config.seed * 1000 + round, self.config.rounds.per_prompt)
