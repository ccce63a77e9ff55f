"""Which objective a config names: one of this room, an entry point of `selfevo_jax.objectives`, or `module:name`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, JsonValue, field_validator

from selfevo_jax import plugins
from selfevo_jax.errors import ConfigError
from selfevo_jax.section import Section
from selfevo_jax.train.objectives.sft import Sft

if TYPE_CHECKING:
    from selfevo_jax.train.objectives.base import Objective

GROUP = "selfevo_jax.objectives"
BUILT_IN = {"sft": Sft}


class ObjectiveSection(Section):
    """What a fine-tuning minimises."""

    name: str = "sft"
    """`sft` (weighted cross-entropy), one of an installed package (entry points `selfevo_jax.objectives`), or
    `module:name`."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of an objective from outside the package."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        plugins.check_name(GROUP, name, BUILT_IN)
        return name


def open_objective(section: ObjectiveSection) -> Objective:
    """Raises ConfigError where it cannot be made of these settings."""
    if section.name in BUILT_IN:
        if section.settings:
            raise ConfigError(f"objective.settings: {section.name} has none; remove them")
        return BUILT_IN[section.name]()
    from selfevo_jax.train.objectives.base import Objective  # here alone: it needs JAX, which settings do not

    name, key = section.name, "objective.name"
    objective: Objective = plugins.made(GROUP, name, key, BUILT_IN, Objective, **section.settings)
    return objective
