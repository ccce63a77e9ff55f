"""Which methods there are: those of this room, entry points of `selfevo_jax.methods`, and `module:name`."""

from __future__ import annotations

from selfevo_jax import plugins
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.base import Method
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

    Raises ConfigError where there is none, or it refuses them.
    """
    name, settings = config.method.name, config.method.settings
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
