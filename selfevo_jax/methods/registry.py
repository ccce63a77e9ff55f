"""Which methods there are: those of this room, entry points of `selfevo_jax.methods`, and `module:name`."""

from __future__ import annotations

from selfevo_jax import plugins
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.base import Method
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.methods.self_training import SelfTraining

GROUP = "selfevo_jax.methods"
BUILT_IN = {"self_refine": SelfRefine, "self_training": SelfTraining}


def open_method(config: Config) -> Method:
    """The method that the config names: its class is called with the config, and with `method.settings`.

    Raises ConfigError where there is none, or it refuses them.
    """
    name, settings = config.method.name, config.method.settings
    if name in BUILT_IN:
        if settings:
            raise ConfigError(f"method.settings: {name} has none here; its own are in `rounds`")
        return BUILT_IN[name](config)
    method: Method = plugins.made(GROUP, name, "method.name", BUILT_IN, Method, config, **settings)
    return method
