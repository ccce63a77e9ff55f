"""What is imported when it is first asked for: names of a room, so that a config is read and checked before JAX starts,
and packages that need not be installed."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def on_demand(package: str) -> Callable[[str], Any]:
    """`__getattr__` for the `__init__` of a package: it offers what is imported there under `if TYPE_CHECKING:`, which
    is the one list for type checkers and for this (PEP 562). The package's `__dir__` becomes its `__all__`, so that
    names are completed before they are imported."""
    room = sys.modules[package]
    tree = ast.parse(Path(str(room.__file__)).read_bytes())
    unless_run = [block for block in tree.body if isinstance(block, ast.If)]
    modules = {
        alias.name: str(line.module)
        for block in unless_run
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        found = getattr(importlib.import_module(modules[name]), name)
        setattr(room, name, found)
        return found

    vars(room)["__dir__"] = lambda: [*(name for name in vars(room) if name.startswith("__")), *room.__all__]
    return get


def install(extra: str) -> str:
    """The command that installs an extra: of the checkout that the package is imported from, where it is one."""
    root = Path(__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        return f"pip install 'selfevo-jax[{extra}]'"
    here = Path(".").samefile(root)
    return f"pip install -e '{'.' if here else root}[{extra}]'"


def extra(module: str, package: str, name: str, fault: Callable[[str], Exception]) -> Any:
    """A module of a package that the extra `name` installs. Raises what `fault` makes where it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise fault(f"needs the package {package}; install it with: {install(name)}") from error
