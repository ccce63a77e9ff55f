"""What settings of objectives may be."""

from __future__ import annotations

import math
from collections.abc import Sequence

from selfevo_jax.errors import ConfigError


def check(
    objective: str, key: str, value: float | str, above: float, below: float = math.inf, least: bool = False
) -> None:
    """Raises ConfigError where a setting is no finite number between these; with `least` it may be `above` itself."""
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    number = float(value) if real else math.nan  # which is within no bounds
    if not (above <= number < below and (least or number > above)):
        bounds = f"{'of' if least else 'above'} {above:g}{' or more' if least else ''}"
        bounds += "" if math.isinf(below) else f"{',' if least else ' and'} below {below:g}"
        raise ConfigError(f"objective.settings.{key} of {objective}: found {value!r}, expected a number {bounds}")


def check_choice(objective: str, key: str, value: str, choices: Sequence[str]) -> None:
    """Raises ConfigError where a setting is none of these."""
    if value not in choices:
        raise ConfigError(f"objective.settings.{key} of {objective}: found {value!r}, expected {' or '.join(choices)}")


def check_count(objective: str, key: str, value: int) -> None:
    """Raises ConfigError where a setting is no whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"objective.settings.{key} of {objective}: found {value!r}, expected a whole number of 1 or more"
        )


def check_flag(objective: str, key: str, value: bool) -> None:
    """Raises ConfigError where a setting is neither true nor false."""
    if not isinstance(value, bool):
        raise ConfigError(f"objective.settings.{key} of {objective}: found {value!r}, expected true or false")
