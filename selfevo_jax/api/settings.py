"""Settings as Python has them, for a config as the command line has it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from selfevo_jax.errors import ConfigError, first_line


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """`key=value` of dotted keys and plain values; JSON is YAML. Paths are texts, and numbers of numpy are numbers.

    Raises ConfigError for a value that a config has no form for, by its key.
    """
    return [f"{key}=" + _written(f"settings['{key}']", value) for key, value in settings.items()]


def as_tree(config: Mapping[str, Any]) -> dict[str, Any]:
    """Sections as a config file has them, of the same values. Raises as `as_overrides`."""
    return {str(key): json.loads(_written(f"config['{key}']", value)) for key, value in config.items()}


def _written(name: str, value: Any) -> str:
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{name}: {first_line(error)}; expected texts, numbers, true or false, None, or lists and mappings of these"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == ():  # of numpy or JAX
        return value.item()
    raise TypeError(f"found a value of type {type(value).__name__}")
