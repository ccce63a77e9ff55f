"""`selfevo evolve --check`: all that would stop a run, and what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from selfevo_jax.cli.common import say
from selfevo_jax.errors import ConfigError

if TYPE_CHECKING:
    from selfevo_jax.start.check import Checked


def checked(config: Path, overrides: Sequence[str]) -> None:
    """Says it; ends with code 1 where something would stop the run."""
    from selfevo_jax.config import override, read_tree, set_key, usable_config

    found, faults = None, list[str]()
    try:
        tree = read_tree(config)
        for text in overrides:
            set_key(tree, *override(text))
    except ConfigError as error:
        faults += error.faults
    else:
        loaded, faults = usable_config(tree, str(config))
        if loaded is not None:
            from selfevo_jax.start.check import check

            found = check(loaded)
    say(f"{config}: looked at; nothing is written")
    if found is not None:
        show(found)
        faults += found.faults
    if not faults:
        say("Nothing that can be seen now would stop the run.", "green")
        return
    say(f"{len(faults)} {'faults' if len(faults) > 1 else 'fault'} would stop the run:", "red")
    for number, fault in enumerate(faults, 1):
        say(f"  {number}. {fault}")
    raise typer.Exit(1)


def show(found: Checked) -> None:
    """What was seen of a run, but for what would stop it."""
    for line in found.facts:
        say(f"  {line}")
    if found.time is not None:
        for line in found.time.lines():
            say(f"  {line}")
    for line in found.warnings:
        say(f"warning: {line}", "yellow")
