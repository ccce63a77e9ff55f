"""Plain self-training: the model learns its own first responses, unjudged. The baseline without feedback."""

from __future__ import annotations

from dataclasses import dataclass

from selfevo_jax.methods.unjudged import Unjudged


@dataclass(frozen=True)
class SelfTraining(Unjudged):
    """As `self_refine`, without feedback, refinement and filter. Settings of these are refused."""

    name: str = "self_training"
