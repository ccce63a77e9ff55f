"""Settings of a foreign model: read by their kind, or refused by their key."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from selfevo_jax.errors import ModelError


class Facts:
    """Keys with values, from a file. A key that is absent or null takes the default; without one it is missing."""

    def __init__(self, values: Mapping[str, Any], place: Callable[[str], str], missing: str) -> None:
        """`place` names a key in errors, with its file; `missing` is the remedy where one is absent."""
        self.values = dict(values)
        self.unread = set(values)
        """The keys that nobody has asked for so far."""
        self._place, self._missing = place, missing

    def get(self, key: str) -> Any:
        self.unread.discard(key)
        return self.values.get(key)

    def refuse(self, key: str, expected: str) -> NoReturn:
        found = reprlib.repr(self.values.get(key))
        raise ModelError(f"{self._place(key)} is {found}, supported is {expected}")

    def whole(self, key: str, default: int | None = None, least: int = 1) -> int:
        value = self._or_default(key, default)
        if type(value) is not int or value < least:
            self.refuse(key, f"a whole number from {least}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number from 0."""
        value = self._or_default(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            self.refuse(key, "a number from 0")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._or_default(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def _or_default(self, key: str, default: Any) -> Any:
        value = self.get(key)
        if value is None and default is None:
            raise ModelError(f"{self._place(key)} is missing; {self._missing}")
        return default if value is None else value
