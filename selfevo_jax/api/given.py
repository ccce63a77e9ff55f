"""What a caller gives, read before anything is loaded or drawn: texts and numbers of the kinds that are expected."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from selfevo_jax.errors import ConfigError
from selfevo_jax.text import utf8

_SHOWN = 60
"""Characters of a value in a message."""


def texts(name: str, given: Any) -> list[str]:
    """A text, or several, as a list. Raises ConfigError for what is neither, naming the argument and the place."""
    if isinstance(given, str):
        return [_written(name, given)]
    if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}: found {_shown(given)}, expected a text or a list of texts")
    found = list(given)
    for at, one in enumerate(found):
        if not isinstance(one, str):
            raise ConfigError(f"{name}[{at}]: found {_shown(one)}, expected a text")
        _written(f"{name}[{at}]", one)
    return found


def _written(name: str, text: str) -> str:
    try:
        return utf8(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def require_whole(least: int, *, must: bool = False, **given: Any) -> None:
    """Raises ConfigError for an argument that is no whole number from `least` on; None is left to the config unless the
    argument `must` be given."""
    for name, value in given.items():
        if value is None and not must:
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ConfigError(f"{name}: found {_shown(value)}, expected a whole number from {least} on")


def require_numbers(**given: Any) -> None:
    """Raises ConfigError for an argument that is no number; None is left to the config."""
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise ConfigError(f"{name}: found {_shown(value)}, expected a number")


def require_seed(seed: Any, *, drawn: bool = True) -> None:
    """Raises ConfigError for what is no seed; None is one where a call may draw anew."""
    if (seed is None and drawn) or (isinstance(seed, Integral) and not isinstance(seed, bool)):
        return
    raise ConfigError(f"seed: found {_shown(seed)}, expected a whole number{' or None' if drawn else ''}")


def path_text(name: str, given: Any) -> str:
    """A path or a name as text. Raises ConfigError for what is neither."""
    if not isinstance(given, str | os.PathLike):
        raise ConfigError(f"{name}: found {_shown(given)}, expected a text or a path")
    return str(given)


def require_settings(settings: Any) -> None:
    """Raises ConfigError for settings that are no mapping of dotted keys."""
    if settings is not None and not (isinstance(settings, Mapping) and all(isinstance(key, str) for key in settings)):
        raise ConfigError(f"settings: found {_shown(settings)}, expected a mapping such as {{'rounds.number': 2}}")


def _shown(value: Any) -> str:
    written = repr(value)
    if len(written) > _SHOWN:
        written = f"{written[:_SHOWN]}..."
    return written if value is None else f"{written} ({type(value).__name__})"
