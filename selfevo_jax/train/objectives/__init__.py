"""Objectives: one small file each."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.train.objectives.base import (
        REFERENCE,
        TEACHER_IDS,
        TEACHER_LOGPS,
        TOKEN_REFERENCE,
        Objective,
        Sequences,
        Targets,
    )
    from selfevo_jax.train.objectives.section import ObjectiveSection, open_objective
    from selfevo_jax.train.objectives.sft import Sft
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "REFERENCE",
    "TEACHER_IDS",
    "TEACHER_LOGPS",
    "TOKEN_REFERENCE",
    "Objective",
    "ObjectiveSection",
    "Sequences",
    "Sft",
    "Targets",
    "open_objective",
]
