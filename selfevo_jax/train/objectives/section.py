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
_HERE = "selfevo_jax.train.objectives"
BUILT_IN = {
    "sft": f"{_HERE}.sft:Sft",
    "dpo": f"{_HERE}.pairs:Dpo",
    "cdpo": f"{_HERE}.pairs:Cdpo",
    "robust": f"{_HERE}.pairs:Robust",
    "ipo": f"{_HERE}.pairs:Ipo",
    "hinge": f"{_HERE}.pairs:Hinge",
    "apo_zero": f"{_HERE}.pairs:ApoZero",
    "kto": f"{_HERE}.kto:Kto",
}
"""Imported when they are opened: all but `sft` need JAX, which settings do not."""


class ObjectiveSection(Section):
    """What a fine-tuning minimises."""

    name: str = "sft"
    """`sft` (weighted cross-entropy); for a method that makes pairs `dpo`, `cdpo`, `robust`, `ipo`, `hinge` or
    `apo_zero`, and `kto` on single answers; one of an installed package (entry points `selfevo_jax.objectives`), or
    `module:name`."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the objective. Those on pairs have `beta` (0.1) and `nll_weight` (0), `cdpo` and `robust` `label_smoothing`
    (0.1) too; `kto` has `beta` (0.1), `desirable_weight` and `undesirable_weight` (1). `sft` has none."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        plugins.check_name(GROUP, name, BUILT_IN)
        return name


def open_objective(section: ObjectiveSection) -> Objective:
    """Raises ConfigError where it cannot be made of these settings."""
    name, key = section.name, "objective.name"
    if name == "sft":
        if section.settings:
            raise ConfigError("objective.settings: sft has none; remove them")
        return Sft()
    from selfevo_jax.train.objectives.base import Objective  # here alone: it needs JAX, which settings do not

    objective: Objective
    if name in BUILT_IN:
        objective = plugins.built(plugins.imported(BUILT_IN[name], key), name, key, Objective, **section.settings)
    else:
        objective = plugins.made(GROUP, name, key, BUILT_IN, Objective, **section.settings)
    return objective
