"""Objectives: one small file each."""

from selfevo_jax.train.objectives.base import Objective, Sequences, Targets
from selfevo_jax.train.objectives.section import ObjectiveSection, open_objective
from selfevo_jax.train.objectives.sft import Sft

__all__ = ["Objective", "ObjectiveSection", "Sequences", "Sft", "Targets", "open_objective"]
