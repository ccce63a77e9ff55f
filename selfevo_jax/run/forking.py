"""A new run from a finished point of another one: what is finished there is kept, the keys that it does not rest on are
free."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from selfevo_jax.config import Config, dump_config
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.progress import Reporter
from selfevo_jax.run.files import read_json, to_json
from selfevo_jax.run.identity import flat
from selfevo_jax.run.joining import REMOVED
from selfevo_jax.run.run_dir import COMMITTED, META, RunDir, name_of
from selfevo_jax.storage import is_remote

RECORD = "fork.json"
"""Of a run that began as a fork: from which run and point, with which keys changed."""
BASE = "base"
_BEFORE_META = -1

_MADE_BY = {
    "seed": "the draws and the order of the rows",
    "model": "the base model",
    "format": "the prompts that M_meta was trained on",
    "meta": "the training of M_meta",
    "data.meta_skill": "D_meta",
    "data.meta_from_solutions": "D_meta",
    "data.meta_rows": "D_meta",
    "data.qa": "D_QA",
    "data.stories.changes": "D_meta",
    "data.stories.meta_questions": "D_meta",
    "data.stories.responses_per_question": "D_meta",
    "data.stories.right_copies": "D_meta",
}
"""Keys that M_meta, and so every later checkpoint, rests on."""
_ROUNDS_MADE_BY = {"judge": "the verdicts of the kept rounds"}
_MEASURED_BY = (
    "model",
    "format",
    "judge",
    "evaluate",
    "data.evaluation",
    "data.evaluation_rows",
    "data.stories.changes",
    "data.stories.evaluation_rows",
    "data.stories.evaluation_split",
    "sampling.cache_length",
    "sampling.dtype",
    "sampling.param_dtype",
    "sampling.cache_dtype",
    "sampling.respond",
    "sampling.feedback",
    "sampling.refine",
    "rounds.turns",
)
"""Keys that figures of a checkpoint rest on: where one differs, the kept checkpoints are measured again."""
_FINGERPRINTS = ("model", "tokenizer", "format", "data.meta_skill", "data.meta_from_solutions", "data.qa")


def _below(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


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


def _check(run: RunDir, level: int, changed: Sequence[str], measured: bool) -> None:
    made_by = _MADE_BY | (_ROUNDS_MADE_BY if level > 0 else {})
    if level >= 0 and (held := [key for key in changed if _below(key, tuple(made_by))]):
        lines = [
            f"{key}: {next(why for name, why in made_by.items() if _below(key, [name]))} came from it" for key in held
        ]
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
    changes = _changes(old, new)
    changed = [key for key, _, _ in changes]
    measured = not any(
        _below(key, _MEASURED_BY) and not (key.startswith("sampling.") and key.endswith(".temperature"))
        for key in changed
    )
    _check(run, level, changed, measured)
    names = [
        name
        for name in run.sums.names()
        if (of := _level(name)) is not None and of <= level and (measured or not name.startswith("evaluations/"))
    ]
    if (faults := run.sums.record_faults()) or (faults := [f for n in names if (f := run.sums.fault(run.root / n))]):
        raise SelfevoError(
            f"{run.root}/{faults[0]}; a fork would carry it on. `selfevo verify {run.root}` names every fault; restore "
            "the file from a copy, or fork from an earlier point"
        )
    prints = read_json(run.root / "fingerprints.json")
    rested = (_FINGERPRINTS + (("data.evaluation",) if measured else ())) if level >= 0 else ()
    record = {
        "from": str(run.root),
        "point": point,
        "changed": {key: {"old": before, "new": after} for key, before, after in changes},
        "files": {name: run.sums.digest(run.root / name) for name in names},
    }
    records = {
        RECORD: to_json(record),
        "fingerprints.json": to_json({key: value for key, value in prints.items() if _below(key, rested)}),
        "config.yaml": dump_config(new).encode("utf-8"),
    }
    folders = sorted({name.split("/")[0] for name in names})
    with to.made_at_once(folders) as finish:
        with reporter.task(f"forking {run.root}", len(names), "files") as meter:
            for done, name in enumerate(names, start=1):
                _bring(run.root / name, to.root / name)
                meter.set(done)
        finish(records)
    told = [f"{key}: {before!r} -> {after!r}" for key, before, after in changes]
    return Forked(len(names), told, not measured)


def _bring(source: Path, to: Path) -> None:
    """Links or copies a finished file."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(source) or is_remote(to):
        with source.open("rb") as found, to.open("wb") as out:
            shutil.copyfileobj(found, out, 1 << 24)
        return
    try:
        os.link(source, to)
    except OSError:  # another disk, or one without links
        try:
            shutil.copyfile(source, to)
        except OSError as error:
            with contextlib.suppress(OSError):
                to.unlink(missing_ok=True)
            raise SelfevoError(
                f"{to}: cannot be written ({error.strerror}); make room, and run the same call again"
            ) from error
