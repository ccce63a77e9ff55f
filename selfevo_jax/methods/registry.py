"""Which methods there are: those of this room, entry points of `selfevo_jax.methods`, and `module:name`."""

from __future__ import annotations

from selfevo_jax import plugins
from selfevo_jax.config import Config
from selfevo_jax.config.methods import DEFAULTS
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.base import Method
from selfevo_jax.methods.checks import check_objective, lacking
from selfevo_jax.methods.debate import Debate
from selfevo_jax.methods.grpo import GroupPolicy
from selfevo_jax.methods.hindsight import ChainOfHindsight
from selfevo_jax.methods.ilf import Ilf
from selfevo_jax.methods.iterative_dpo import IterativeDpo
from selfevo_jax.methods.list_preferences import ListPreferences
from selfevo_jax.methods.raft import Raft
from selfevo_jax.methods.rest_em import RestEm
from selfevo_jax.methods.sdpo import Sdpo
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.methods.self_rewarding import SelfRewarding
from selfevo_jax.methods.self_training import SelfTraining
from selfevo_jax.methods.spin import Spin
from selfevo_jax.methods.star import Star
from selfevo_jax.methods.superhf import SuperHf
from selfevo_jax.train import Objective, ObjectiveSection, open_objective
from selfevo_jax.train.objectives.section import BUILT_IN as OBJECTIVES

GROUP = "selfevo_jax.methods"
BUILT_IN: dict[str, type[SelfRefine]] = {
    method.name: method
    for method in (
        SelfRefine,
        SelfTraining,
        Raft,
        SuperHf,
        RestEm,
        Star,
        Ilf,
        Debate,
        IterativeDpo,
        SelfRewarding,
        Spin,
        ListPreferences,
        ChainOfHindsight,
        Sdpo,
        GroupPolicy,
    )
}


def open_method(config: Config) -> Method:
    """The method that the config names: its class is called with the config, and with `method.settings`.

    Raises ConfigError where there is none, it refuses them, or its examples do not fit the objective.
    """
    method = _opened(config)
    if isinstance(method, SelfRefine):
        objective = open_objective(config.learn.objective)
        check_objective(objective, method.name, method.carries, _taught_by(objective))
    return method


def _taught_by(objective: Objective) -> str | None:
    """The first of our methods whose examples carry what an objective reads."""
    for name, of in BUILT_IN.items():
        own = DEFAULTS.get(name, {}).get("learn.objective.name")
        if not lacking(objective, of.carries) and ("learn.objective.name" not in of.fixed or own == objective.name):
            return name
    return None


def _opened(config: Config) -> Method:
    name, settings = config.method.name, config.method.settings
    if name in OBJECTIVES and name not in BUILT_IN:
        other = _taught_by(open_objective(ObjectiveSection(name=name)))
        raise ConfigError(
            f"method.name: found {name}, which is an objective; set learn.objective.name to it, and method.name to a "
            f"method that learns by it, such as {other}"
        )
    if name in BUILT_IN:
        known = BUILT_IN[name].settings
        if settings and not known:
            raise ConfigError(f"method.settings: {name} has none here; its own are in `rounds`")
        if others := [key for key in settings if key not in known]:
            raise ConfigError(f"method.settings: {name} has {', '.join(known)}; found {', '.join(others)}")
        built: Method = plugins.built(BUILT_IN[name], name, "method.name", Method, config, **settings)
        return built
    method: Method = plugins.made(GROUP, name, "method.name", BUILT_IN, Method, config, **settings)
    return method
