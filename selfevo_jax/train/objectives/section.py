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
    "sft_kl": f"{_HERE}.sft_kl:SftKl",
    "hindsight": f"{_HERE}.hindsight:Hindsight",
    "dpo": f"{_HERE}.pairs:Dpo",
    "dpo_norm": f"{_HERE}.pairs:DpoNorm",
    "cdpo": f"{_HERE}.pairs:Cdpo",
    "robust": f"{_HERE}.pairs:Robust",
    "ipo": f"{_HERE}.pairs:Ipo",
    "hinge": f"{_HERE}.pairs:Hinge",
    "apo_zero": f"{_HERE}.pairs:ApoZero",
    "cpl": f"{_HERE}.cpl:Cpl",
    "xpo": f"{_HERE}.xpo:Xpo",
    "kto": f"{_HERE}.kto:Kto",
    "pro": f"{_HERE}.lists:Pro",
    "d2o": f"{_HERE}.lists:D2o",
    "copg": f"{_HERE}.lists:Copg",
    "grpo": f"{_HERE}.grpo:Grpo",
    "self_distillation": f"{_HERE}.self_distillation:SelfDistillation",
}
"""Imported when they are opened: all but `sft` need JAX, which settings do not."""


class ObjectiveSection(Section):
    """What a fine-tuning minimises."""

    name: str = "sft"
    """`sft` (weighted cross-entropy), `sft_kl` (which stays near its start) or `hindsight`; for a method that makes
    pairs `dpo`, `dpo_norm`, `cdpo`, `robust`, `ipo`, `hinge`, `apo_zero`, `cpl` or `xpo`, `kto` on single answers,
    `pro`, `d2o` or `copg` on lists, `grpo` on answers with rewards, `self_distillation` on answers with feedback; one
    of an installed package (entry points `selfevo_jax.objectives`), or `module:name`."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the objective. Those on pairs have `beta` (0.1) and `nll_weight` (0), `cdpo` and `robust` `label_smoothing`
    (0.1; `controls` is the share of a round's planted wrong answers that the critic calls good) too, `cpl`
    `worse_weight` (0.5) and `by_token` (false), `xpo` `alpha` (1e-5); `kto` has `beta` (0.1), `desirable_weight` and
    `undesirable_weight` (1); `sft_kl` `kl_weight` (0.35); `pro` `sft_weight` (0.05) and `by_value` (true); `d2o` `beta`
    and `alpha` (0.1); `copg` `beta` (0.1); `grpo` `advantage` (`grpo`, `rloo` or `dr_grpo`), `ratio` (`token` or
    `sequence`), `loss_aggregation` (`sequence`, `token` or `constant`), `constant_length`, `clip` (0.2), `clip_high`
    and `kl_weight` (0); `self_distillation` `form` (`reverse`, `forward` or `jensen_shannon`) and `top_k` (16). `sft`
    and `hindsight` have none."""

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
