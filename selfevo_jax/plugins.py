"""Parts from outside the package: an entry point of a group, or `module:name`."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import os
import sys
from collections.abc import Collection
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

from selfevo_jax.errors import ConfigError, SelfevoError, first_line, with_article


def known(group: str) -> list[str]:
    """The names that installed packages offer in a group; nothing is imported."""
    return sorted({point.name for point in _points(group)})


def check_name(group: str, name: str, built_in: Collection[str]) -> None:
    """Raises ValueError, with the nearest name, for one that is neither built in, nor offered, nor `module:name`."""
    offered = [*built_in, *known(group)]
    if name in offered or _is_path(name):
        return
    near = difflib.get_close_matches(name, offered, n=1)
    meant = f"; did you mean '{near[0]}'?" if near else "."
    raise ValueError(f"no '{name}'{meant} Known are {', '.join(offered)}, and module:name for one of your own")


def load(group: str, name: str, key: str) -> Any:
    """What an entry point of a group, or `module:name`, names. Errors: `imported`."""
    return imported(path_of(group, name), key)


def path_of(group: str, name: str) -> str:
    """The `module:name` of an entry point; another name stays as it is."""
    return next((point.value for point in _points(group) if point.name == name), name)


def checksum(path: str, key: str) -> str:
    """sha256 of the file of the module in `module:name`, as hex. Raises ConfigError where it cannot be imported."""
    imported(path, key)
    file = getattr(sys.modules[path.partition(":")[0]], "__file__", None)
    return hashlib.sha256(b"" if file is None else Path(file).read_bytes()).hexdigest()


def imported(path: str, key: str) -> Any:
    """What `module:name` names. Raises ConfigError, with the key that asks for it, where it cannot be imported."""
    if not _is_path(path):
        raise ConfigError(f"{key}: found '{path}', expected module:name, such as my_package.parts:Mine")
    module, _, attributes = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # a module of the user's may fail in any way
        top = module.partition(".")[0]
        sought = isinstance(error, ModuleNotFoundError) and error.name == top
        remedy = "is the module on PYTHONPATH, and the name in it?"
        if sought and (Path(f"{top}.py").is_file() or Path(top).is_dir()):
            remedy = "it is in this folder, where no modules are looked for: put PYTHONPATH=. before the command"
        raise ConfigError(
            f"{key}: '{path}' cannot be imported ({type(error).__name__}: {first_line(error)}); {remedy}"
        ) from error
    return found


def made(
    group: str, name: str, key: str, built_in: Collection[str], like: type, /, *arguments: Any, **settings: Any
) -> Any:
    """What `load` finds, called. Raises ConfigError, with the key, for an unknown name (see `check_name`), and as
    `built` does."""
    try:
        check_name(group, name, built_in)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
    return built(load(group, name, key), name, key, like, *arguments, **settings)


def built(part: Any, name: str, key: str, like: type, /, *arguments: Any, **settings: Any) -> Any:
    """What a part of the user's gives when it is called; `like` is its protocol. Raises ConfigError, with the key and
    the part's name, where that fails, or gives something without what the protocol names."""
    try:
        found = part(*arguments, **settings)
        lacking = [wanted for wanted in dir(like) if not wanted.startswith("_") and not hasattr(found, wanted)]
    except SelfevoError:
        raise
    except Exception as error:  # code of the user's
        raise ConfigError(f"{key}: {name} fails: {type(error).__name__}: {first_line(error)}") from error
    if lacking:
        raise ConfigError(
            f"{key}: {name} gives {with_article(type(found).__name__)} without {', '.join(lacking)}, expected "
            f"{with_article(like.__name__)} (see {like.__module__})"
        )
    return found


def _points(group: str) -> EntryPoints:
    """Of installed packages, which are looked through once, and again where something has been installed."""
    return _points_in(group, tuple((place, _changed(place)) for place in sys.path))


@functools.lru_cache(maxsize=16)
def _points_in(group: str, places: tuple[tuple[str, int], ...]) -> EntryPoints:
    """Of the packages in these places, each with the time of its last change."""
    return entry_points(group=group)


def _changed(place: str) -> int:
    try:
        return os.stat(place or os.curdir).st_mtime_ns
    except OSError:
        return 0


def _is_path(name: str) -> bool:
    module, sign, attribute = name.partition(":")
    return bool(sign) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))
