"""Which model a user names: a model source, or a checkpoint of a run by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from selfevo_jax.checkpoint import locate
from selfevo_jax.config import Config, load_config, override, parse_config, read_tree, set_key
from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.run.names import BASE, COMMITTED, CONFIG, META, name_of
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.run.sources import run_of
from selfevo_jax.storage import is_remote, place

_ROUND = re.compile(r"(?:round )?([0-9]+)")


@dataclass(frozen=True)
class Chosen:
    """A model, and the run that it belongs to, where there is one."""

    source: str
    tokenizer: str | None = None
    """Where it does not come with the model."""
    run: RunDir | None = None
    name: str | None = None
    """Of the checkpoint in the run: `base`, `meta`, `0003`."""
    config: Config | None = None
    """Of the run."""

    @property
    def shown(self) -> str:
        """As reports name it."""
        if self.name is None:
            return self.source
        return f"round {int(self.name)}" if self.name.isdecimal() else self.name


def point_named(given: int | str) -> str:
    """A point of a run as the run directory names it: `base`, `meta`, or the four digits of a round, which may be given
    as 1, '1', '0001' or 'round 1'; 0 is `meta`. Raises ConfigError for what is none."""
    if given in (BASE, META):
        return str(given)
    found = None if isinstance(given, bool) else _ROUND.fullmatch(str(given))
    if found is None:
        raise ConfigError(
            f"{given!r}: no checkpoint of a run; expected '{BASE}', '{META}', or a round as 1, '1', '0001' or 'round 1'"
        )
    return name_of(int(found[1]))


def choose(text: str) -> Chosen:
    """What a user names: RUN (its newest checkpoint), RUN@base, RUN@meta, RUN@ROUND, or a model source.

    A checkpoint inside a run directory belongs to that run. Raises ConfigError where the run has not finished it, or
    keeps it no longer; ModelError where there is no such model.
    """
    if (named := of_a_run(text)) is not None:
        return named
    try:
        path = locate(text)
    except ModelError as error:
        if ":" in text:
            raise
        raise ModelError(f"{text}: no run, and no model: {str(error).removeprefix(f'{text}: ')}") from error
    root = None if path is None else run_of(path)
    if path is None or root is None:
        return Chosen(text)
    run = RunDir(root)
    return Chosen(text, run=run, name=path.name, config=run.read_config())


def of_a_run(text: str) -> Chosen | None:
    """`choose` of RUN and RUN@POINT; None for what is neither."""
    if (parts := _point_of_run(text)) is not None:
        return _of_run(RunDir(parts[0]), parts[1])
    return _newest(RunDir(text)) if _is_run(text) else None


def run_named(text: str) -> RunDir:
    """The run that a user names: by its directory, as RUN@POINT, by a checkpoint inside it, or by its config.

    Raises ConfigError for a config that cannot be used."""
    if (parts := _point_of_run(text)) is not None:
        return RunDir(parts[0])
    if text.endswith((".yaml", ".yml")) and place(text).is_file():
        inside = text.rpartition("/")[0]
        return RunDir(inside if inside and _is_run(inside) else load_config(text).run_dir)
    root = None if is_remote(text) else run_of(place(text).absolute())
    return RunDir(text if root is None or _is_run(text) else root)


def config_of(chosen: Chosen, overrides: Sequence[str] = ()) -> Config:
    """The config of a checkpoint's run, with the checkpoint as its model, and `key=value` overrides.

    Raises ConfigError for a model that belongs to no run, and for faulty overrides.
    """
    if chosen.run is None:
        raise ConfigError(f"{chosen.source}: belongs to no run, so that there is no config beside it; name a config")
    chosen.run.require_run()
    tree = read_tree(chosen.run.config_file)
    set_key(tree, "model.source", chosen.source)
    set_key(tree, "model.tokenizer", chosen.tokenizer)
    for text in overrides:
        set_key(tree, *override(text))
    return parse_config(tree, str(chosen.run.config_file))


def _point_of_run(text: str) -> tuple[str, str] | None:
    """RUN and POINT of RUN@POINT, where there is such a run. Raises ConfigError for what is no point of one."""
    before, at, point = text.rpartition("@")
    if not at or not before or not _is_run(before):
        return None
    if point not in (BASE, META) and not (point.isascii() and point.isdecimal()):
        raise ConfigError(f"{text}: expected @ROUND, @{META} or @{BASE} behind the run, found '@{point}'")
    return before, point


def _is_run(text: str) -> bool:
    folder = place(text)
    return (folder / CONFIG).exists() and not (folder / "model.json").exists()


def _newest(run: RunDir) -> Chosen:
    rounds = next(number for number in count() if not run.round(number + 1, COMMITTED).exists())
    if not rounds and not run.meta(COMMITTED).exists():
        raise ConfigError(f"{run.root}: no checkpoint is finished; name the model it began with, as {run.root}@{BASE}")
    return _of_run(run, name_of(rounds))


def _of_run(run: RunDir, point: str) -> Chosen:
    config = run.read_config()
    if point == BASE:
        return Chosen(config.model.source, config.model.tokenizer, run, BASE, config)
    name = point if point == META else name_of(int(point))
    mark = run.meta(COMMITTED) if name == META else run.round(int(name), COMMITTED)
    if not mark.exists():
        raise ConfigError(f"{run.root}: has not finished {point}; `selfevo status {run.root}` says what is finished")
    if run.removed(name):
        raise ConfigError(f"{run.root}: checkpoint {name} was removed (saving.keep_last); choose one that is kept")
    return Chosen(str(run.checkpoint(name)), None, run, name, config)
