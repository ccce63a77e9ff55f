"""Plain self-training: the model learns its own first responses, unjudged. The baseline without feedback."""

from __future__ import annotations

from dataclasses import dataclass

from selfevo_jax.config import RoundsSection
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.unjudged import Unjudged


@dataclass(frozen=True)
class SelfTraining(Unjudged):
    """As `self_refine`, without feedback, refinement and filter. Raises ConfigError for settings of these."""

    name: str = "self_training"

    def __post_init__(self) -> None:
        for key in ("turns", "select", "pass_rate"):
            found, usual = getattr(self.config.rounds, key), RoundsSection.model_fields[key].default
            if found != usual:
                told = f"found {found}, but {self.name} has no feedback; set it to {usual}, or leave it out"
                raise ConfigError(f"rounds.{key}: {told}")
        super().__post_init__()
