"""Whether two annotations are made in the same way."""

from __future__ import annotations

import itertools
import os.path
from collections.abc import Iterator, Mapping
from typing import Any

from selfevo_jax.errors import shown

_FREE = ("settings.price", "settings.max_cost", "settings.responses.price")
"""Keys that change no row."""
_LENGTHS = ("max_tokens", "max_new_tokens")
"""Last parts of keys that say how long a text may be: what was whole stays as it is, and what was cut is asked for
again."""
_MADE_BY = ("prompts", "settings", "base")
_WHOLE = ("columns", "template")
"""Last parts of keys whose values are compared as they are."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two annotations are made by in two ways (see `summary.described`), each in words. More rows than before, or
    longer texts, are no other way; a key that one of the two does not know is of another version."""
    pairs = (_pairs(before[key], now[key], key) for key in _MADE_BY if key in before and key in now)
    return [
        f"{key.removeprefix('settings.')} was {shown(old)}, is {shown(new)}"
        for key, old, new in itertools.chain.from_iterable(pairs)
        if not _is_same(key, old, new)
    ]


def _pairs(before: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Dotted keys that both know, and their values."""
    inner = isinstance(before, Mapping) and isinstance(now, Mapping) and path.rpartition(".")[2] not in _WHOLE
    if not inner:
        yield path, before, now
        return
    for key in now:
        if key in before:
            yield from _pairs(before[key], now[key], f"{path}.{key}")


def _is_same(key: str, before: Any, now: Any) -> bool:
    if key == "settings.limit":
        return now is None or (before is not None and now >= before)
    if key == "prompts":  # from where it is called may differ
        return _file(before) == _file(now)
    if key == "settings.responses.base" and before and now:
        return os.path.normpath(before) == os.path.normpath(now)
    return key.startswith(_FREE) or key.rpartition(".")[2] in _LENGTHS or bool(before == now)


def _file(source: object) -> str:
    return str(source).rpartition("/")[2]
