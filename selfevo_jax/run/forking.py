"""A new run from a finished point of another one: what is finished there is kept, the keys that it does not rest on are
free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from selfevo_jax.config import Config, dump_config
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.progress import Reporter
from selfevo_jax.run.artefacts import (
    EVALUATION,
    META_DATA,
    META_SKILL,
    OPEN_ENDED,
    ORDINARY,
    below,
    came_from,
    inputs,
    is_read_by,
)
from selfevo_jax.run.files import read_json, to_json
from selfevo_jax.run.identity import flat, is_safe_to_change
from selfevo_jax.run.names import BASE, COMMITTED, CONFIG, EVALUATIONS, META, OPEN, PRINTS, REMOVED, name_of
from selfevo_jax.run.names import ORDINARY as FOLDER
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.storage import bring_file

RECORD = "fork.json"
"""Of a run that began as a fork: from which run and point, with which keys changed."""
_MEASURED = {EVALUATION: EVALUATIONS, OPEN_ENDED: OPEN, ORDINARY: FOLDER}
"""Kind -> folder of what is measured."""
_FOLDERS = ("meta", "rounds", "checkpoints", *_MEASURED.values())
"""Of a run, where its artefacts are."""
_BEFORE_META = -1
_HELD = (META_DATA, META_SKILL)
"""What every checkpoint rests on. What else a kept round was made with may change: the next ones are made otherwise."""


def _level(name: str) -> int | None:
    """The point that a file of a run belongs to: -1 base, 0 meta, n round n; None for records of the whole run."""
    for part in PurePosixPath(name).parts:
        stem = part.split(".")[0]
        if stem in (BASE, META):
            return _BEFORE_META if stem == BASE else 0
        if len(stem) == 4 and stem.isdecimal():
            return int(stem)
    return None


def _point(run: RunDir, given: str) -> int:
    """The point that a user names. Raises ConfigError where the run has not finished it."""
    if given == BASE:
        return _BEFORE_META
    if given == META:
        number, mark = 0, run.meta(COMMITTED)
    elif given.isdecimal() and int(given) > 0:
        number, mark = int(given), run.round(int(given), COMMITTED)
    else:
        raise ConfigError(f"--from {given}: expected base, meta or the number of a finished round")
    if not mark.exists():
        raise ConfigError(
            f"--from {given}: {run.root} has not finished it; `selfevo status {run.root}` says what is finished"
        )
    if (run.checkpoint(name_of(number)) / REMOVED).exists():
        raise ConfigError(
            f"--from {given}: its checkpoint was removed (saving.keep_last); choose a point whose checkpoint is kept"
        )
    return number


@dataclass(frozen=True)
class Forked:
    """What became of a fork."""

    files: int
    changed: list[str]
    """`key: old -> new`."""
    measured_again: bool
    """Whether figures of the kept checkpoints were left out, since a key that they rest on differs."""


def _changes(old: Config, new: Config) -> list[tuple[str, Any, Any]]:
    before, after = dict(flat(old.model_dump(mode="json"))), dict(flat(new.model_dump(mode="json")))
    keys = {**before, **after}
    return [(k, before.get(k), after.get(k)) for k in keys if k != "run_dir" and before.get(k) != after.get(k)]


def _read_otherwise(old: Config, new: Config) -> list[str]:
    """The inputs that differ, also what phases read of several keys together."""
    before, after = inputs(old), inputs(new)
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _check(run: RunDir, level: int, changed: Sequence[str], measured: bool) -> None:
    judged = [key for key in changed if level > 0 and below(key, ("judge",)) and not is_safe_to_change(key)]
    held = [key for key in changed if level >= 0 and (is_read_by(key, _HELD) or key in judged)]
    if held:
        lines = [f"{key}: {came_from(key)} came from it" for key in held]
        raise ConfigError(
            "these keys cannot change at this point:\n  " + "\n  ".join(lines) + "\nFork from an earlier point "
            "(--from base keeps no checkpoint, so every key is free), or leave them as they are"
        )
    gone = [name_of(n) for n in range(level) if (run.checkpoint(name_of(n)) / REMOVED).exists()]
    if gone and not measured:
        raise ConfigError(
            f"checkpoint {gone[0]} was removed (saving.keep_last), so it cannot be measured again with other "
            "evaluation keys; leave them as they are, or fork from an earlier point"
        )


def fork(run: RunDir, new: Config, point: str, reporter: Reporter) -> Forked:
    """Begins the run of a config in its `run_dir` with what `run` has finished up to a point.

    Args:
      run: the run to fork; it is read alone, and may be going on.
      new: its config with the changed keys and the new `run_dir`.
      point: `base`, `meta`, or the number of a round.

    Every kept file is compared with its checksum first. Files are linked where both runs are on one disk (a run never
    changes a finished file in place), else copied. The config is written last: a fork that was broken off is no run,
    and the same call goes on with it.

    Raises ConfigError for a point that is not finished, a key that cannot change, or a folder that is not free;
    SelfevoError where a file is not what the run has written.
    """
    old = run.read_config()
    level, to = _point(run, point), RunDir(new.run_dir)
    changes, changed = _changes(old, new), _read_otherwise(old, new)
    stays = [kind for kind in _MEASURED if not any(is_read_by(key, (kind,)) for key in changed)]
    stale = tuple(f"{folder}/" for kind, folder in _MEASURED.items() if kind not in stays)
    _check(run, level, changed, not stale)
    names = [
        name
        for name in run.sums.names()
        if (of := _level(name)) is not None and of <= level and not name.startswith(stale)
    ]
    require_sound(run, names, "restore the file from a copy, or fork from an earlier point")
    kinds = (*(_HELD if level >= 0 else ()), *stays)
    record = {
        "from": str(run.root),
        "point": point,
        "changed": {key: {"old": before, "new": after} for key, before, after in changes},
        "files": {name: run.sums.digest(run.root / name) for name in names},
    }
    bring(dict.fromkeys(names, run), to, new, record, prints_of(run, kinds), f"forking {run.root}", reporter)
    told = [f"{key}: {before!r} -> {after!r}" for key, before, after in changes]
    return Forked(len(names), told, bool(stale))


def require_sound(run: RunDir, names: Iterable[str], remedy: str) -> None:
    """Raises SelfevoError where one of these files of a run, or a record of its checksums, is not what it was."""
    if (faults := run.sums.record_faults()) or (faults := [f for n in names if (f := run.sums.fault(run.root / n))]):
        raise SelfevoError(
            f"{run.root}/{faults[0]}; a fork would carry it on. `selfevo verify {run.root}` names every fault; {remedy}"
        )


def prints_of(run: RunDir, kinds: Collection[str]) -> dict[str, str]:
    """The fingerprints of a run that artefacts of these kinds rest on."""
    found: dict[str, str] = read_json(run.root / PRINTS)
    return {key: value for key, value in found.items() if key != "config" and is_read_by(key, kinds)}


def bring(
    files: Mapping[str, RunDir],
    to: RunDir,
    config: Config,
    record: dict[str, Any],
    prints: dict[str, str],
    title: str,
    reporter: Reporter,
) -> None:
    """Begins a run with finished files (by their names) of other ones: links or copies, then its records."""
    records = {
        RECORD: to_json(record),
        PRINTS: to_json(prints),
        CONFIG: dump_config(config).encode("utf-8"),
    }
    with to.made_at_once(_FOLDERS) as finish:
        with reporter.task(title, len(files), "files") as meter:
            for done, (name, run) in enumerate(files.items(), start=1):
                bring_file(run.root / name, to.root / name)
                meter.set(done)
        finish(records)
