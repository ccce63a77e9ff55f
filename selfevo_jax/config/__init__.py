"""The configuration of a run: YAML plus dotted overrides, checked in full before any work starts."""

from selfevo_jax.config.load import dump_config, load_config, override, parse_config, read_tree, set_key, usable_config
from selfevo_jax.config.rounds import RoundsSection
from selfevo_jax.config.sections import Config
from selfevo_jax.config.unread import unread

__all__ = [
    "Config",
    "RoundsSection",
    "dump_config",
    "load_config",
    "override",
    "parse_config",
    "read_tree",
    "set_key",
    "unread",
    "usable_config",
]
