"""What the commands share: the application, its options, and how it speaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console

from selfevo_jax import __version__
from selfevo_jax.errors import ConfigError, first_line
from selfevo_jax.progress import plain

# JAX is imported inside the commands: `--help` answers at once, and `--platform` is set before JAX starts.


ORDER = (
    *("init", "annotate", "meta-data", "evolve", "status", "report", "show", "compare", "export", "chat", "generate"),
    *("eval", "winrate", "fork", "study", "log", "verify", "plan", "keys", "doctor", "import"),
)
"""The commands as one meets them: from files to a run, what it gave, and what is needed now and then."""


class Commands(typer.core.TyperGroup):
    """The commands. A key of the config that is written as an option is refused with the form that it wants."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and any(of.name == "overrides" for of in command.params):
            _refuse_keys_as_options(rest, {opt for of in command.params for opt in (*of.opts, *of.secondary_opts)})
        return name, command, rest


def _refuse_keys_as_options(words: list[str], options: set[str]) -> None:
    for at, word in enumerate(words):
        name, sign, value = word.removeprefix("--").partition("=")
        if word == "--":
            return
        if not word.startswith("--") or f"--{name}" in {*options, "--help"}:
            continue
        from selfevo_jax.config.keys import key_at
        from selfevo_jax.config.secrets import hidden

        key = name.replace("-", "_")
        if key_at(tuple(key.split("."))) is not None:
            after = value if sign else next(iter(words[at + 1 :]), "VALUE")
            raise ConfigError(f"--{name}: a key of the config is written without dashes: {key}={hidden(after)}")


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="A language model improves itself by its own language feedback (SELF), on JAX.",
)
console = Console()

ConfigFile = Annotated[Path, typer.Argument(help="YAML config; see configs/.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value pairs, such as rounds.number=2.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Write even where something of that name exists.")]
A_DAY = 86_400.0
"""Seconds that an option may say to wait at most."""
RunPath = Annotated[str, typer.Argument(help="A run directory, here or on gs://.", show_default=False)]


def say(text: str, style: str | None = None) -> None:
    """A line as it is: no markup, no colours of its own, and not wrapped where it is piped."""
    console.print(plain(text), style=style, highlight=False, markup=False, soft_wrap=True)


def finite(number: float | None) -> float | None:
    """The `callback` of an option that takes a number, if no section of a config reads it: nan is within any bounds."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"found {number}, expected a finite number")
    return number


def _version(value: bool) -> None:
    if value:
        say(f"selfevo_jax {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = (
        False
    ),
) -> None:
    pass


def check_output(out: Path, force: bool, reads: Iterable[str | None] = ()) -> None:
    """Raises ConfigError, before any work, where a file that a command is to write is there already, or cannot be; with
    `force` too where it is one of those that the command reads."""
    from selfevo_jax.storage import refuse_input

    refuse_input(out, reads)
    if out.is_dir():
        raise ConfigError(f"{out}: a folder; name a file to write")
    if out.exists() and not force:
        raise ConfigError(f"{out}: exists already; name another file, or write over it with --force")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: its folder cannot be made ({first_line(error)}); name another file") from error


@contextmanager
def alone_at(out: Path | None, check: Callable[[], None]) -> Iterator[None]:
    """One call at a time makes `out`. `check`, whether it may be written, comes before the lock and behind it: the call
    before may have written it. Raises LockError, and what `check` raises."""
    from selfevo_jax import hosts
    from selfevo_jax.run.lock import alone

    hosts.agree("looking at the output", check)
    with nullcontext() if out is None else alone(out):
        hosts.agree("looking at the output again", check)
        yield


def check_folder(out: Path, source: str, force: bool) -> None:
    """Raises ConfigError, before any work, where a model cannot be written without losing what is there."""
    from selfevo_jax.checkpoint import locate

    if out.name in ("", ".."):
        raise ConfigError(f"{out}: has no name of its own to give to what is written; name a new folder inside it")
    if out.is_file():
        raise ConfigError(f"{out}: a file; name a folder to write")
    if not out.exists() or not any(out.iterdir()):
        return
    if not force:
        raise ConfigError(f"{out}: not empty; name another folder, or move this one out of the way with --force")
    path = locate(source)
    if path is not None and path.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"{out}: holds {source} itself; name another folder")


def make_room(out: Path) -> str | None:
    """Moves a folder that is not empty to a free name beside it; where it is then."""
    from selfevo_jax.storage import storage_of

    if not out.exists() or not any(out.iterdir()):
        return None
    moved = next(to for n in count(1) if not (to := out.with_name(f"{out.name}.before.{n}")).exists())
    storage_of(out).move(out, moved)
    return str(moved)
