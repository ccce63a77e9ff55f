"""Whether what a run directory holds is what was put there, and what equal runs have in common. Reads alone; safe on a
live run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from selfevo_jax.checkpoint import ASIDE, MARK, folder_faults
from selfevo_jax.errors import SelfevoError
from selfevo_jax.run.files import read_json
from selfevo_jax.run.joining import GROWING
from selfevo_jax.run.journal import Journal
from selfevo_jax.run.names import COMMITTED, META, OPEN, PAGE, PRINTS, SCORES, SHOWN, TRACKING, name_of
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.storage import is_remote, storage_of


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong, a line each."""

    files: int
    checkpoints: int
    faults: list[str]
    absent: list[str]
    """What the run shows of itself and is not here: no fault, since nothing rests on it and it can be made anew."""


def verify(run: RunDir) -> Verified:
    """Digests of all finished files, counts of rows, and checkpoints that phases name. Raises ConfigError where no run
    lies."""
    run.require_run()
    known = run.finished_files()
    absent = [name for name in known if name in SHOWN and not (run.root / name).exists()]
    names = [name for name in known if name not in absent]
    faults = run.sums.record_faults()
    if not run.config_file.exists():
        faults.append(f"{run.config_file.name}: missing")
    faults += [fault for name in names if (fault := run.sums.fault(run.root / name)) is not None]
    checkpoints = [META] if run.meta(COMMITTED).exists() else []
    for number in count(1):
        for folder in ("rollouts", "judged"):
            if run.round(number, f"{folder}/manifest.json").exists():
                faults += _counts(run, number, folder)
        if not run.round(number, COMMITTED).exists():
            break
        checkpoints.append(name_of(number))
    faults += _unfinished(run, set(names)) + _states(run)
    for name in checkpoints:
        if not run.complete(name):
            faults.append(f"checkpoints/{name}: no finished checkpoint, but the run's records name it")
    return Verified(len(names), len(checkpoints), sorted(set(faults)), absent)


_DIFFER = ("costs.jsonl", PAGE, "checksums.jsonl", "run.json", f"{TRACKING}/")
"""Times, a page that shows them, records of checks, which speak of files of checkpoints that hold times, and what
trackers keep."""


def records(root: Path) -> dict[str, Any]:
    """Every text file of a run by its name: JSONL and YAML byte by byte, JSON without times; the same for equal runs.

    Not among them are times, log-probabilities (their last bits depend on the shape of the batch), what was moved to
    quarantine, and hidden files (the secret of several processes).
    """
    found: dict[str, Any] = {}
    for file in storage_of(root).files(root):
        name = file.relative_to(root).as_posix()
        if any(part in name for part in ("/params/", f"/{SCORES}")) or ASIDE in name.split("/"):
            continue
        if name.startswith(_DIFFER) or file.name.startswith("."):
            continue
        plain = file.suffix == ".json" or file.name == COMMITTED
        found[name] = _without_times(json.loads(file.read_text())) if plain else file.read_bytes()
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key != "seconds"}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def _unfinished(run: RunDir, known: set[str]) -> list[str]:
    """Of rows of journals that still grow: those that cannot be read."""
    record = run.root / PRINTS
    belongs = read_json(record).get("config") if record.exists() and run.sums.fault(record) is None else None
    faults = []
    folders = [*(f"rounds/*/{folder}" for folder in GROWING), f"{OPEN}/*/texts"]
    for part in sorted(part for folder in folders for part in run.root.glob(f"{folder}/*.jsonl*")):
        path = part.with_name(part.name.removesuffix(".d"))  # the folder of its segments, in a bucket
        name = path.relative_to(run.root).as_posix()
        if name in known or belongs is None:
            continue
        found = Journal(path, follows=0, belongs=f"{belongs} {name}")
        if found.bad:
            faults.append(f"{name}: {len(found.bad)} rows are changed, doubled or of another run")
    return faults


def _states(run: RunDir) -> list[str]:
    """Of the states inside a fine-tuning."""
    faults = []
    for state in sorted(run.root.glob("training/*/*")):
        if not state.name.isdecimal() or (is_remote(state) and not (state / MARK).exists()):
            continue  # not committed
        found = folder_faults(state)
        if state.exists():  # a live run removes old ones
            faults += [f"{state.relative_to(run.root).as_posix()}/{fault}" for fault in found]
    return faults


def _counts(run: RunDir, number: int, folder: str) -> list[str]:
    part = run.round(number, f"{folder}/part-00000.jsonl")
    try:
        wanted = read_json(run.round(number, f"{folder}/manifest.json"))["rows"]
    except (SelfevoError, KeyError, TypeError) as error:
        return [f"rounds/{number:04d}/{folder}/manifest.json: not readable ({error})"]
    found = part.read_bytes().count(b"\n") if part.exists() else 0
    name = part.relative_to(run.root).as_posix()
    return [] if found == wanted else [f"{name}: {found} rows, its manifest says {wanted}"]
