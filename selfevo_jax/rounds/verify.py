"""Whether what a run directory holds is what was put there. Reads alone; safe on a live run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from selfevo_jax.errors import SelfevoError
from selfevo_jax.rounds.files import read_json
from selfevo_jax.rounds.run_dir import COMMITTED, META, RunDir, name_of


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong, a line each."""

    files: int
    checkpoints: int
    faults: list[str]


def verify(run: RunDir) -> Verified:
    """Digests of all finished files, counts of rows, and checkpoints that phases name. Raises ConfigError where no run
    lies."""
    run.read_config()
    names = run.finished_files()
    faults = [fault for name in names[:-1] if (fault := run.sums.fault(run.root / name)) is not None]
    # the newest line is written before its file: a kill, or a live run, may stand between the two
    if names and (run.root / names[-1]).exists() and (fault := run.sums.fault(run.root / names[-1])) is not None:
        faults.append(fault)
    checkpoints = [META] if run.meta(COMMITTED).exists() else []
    for number in count(1):
        if run.round(number, "rollouts/manifest.json").exists():
            faults += _counts(run, number)
        if not run.round(number, COMMITTED).exists():
            break
        checkpoints.append(name_of(number))
    for name in checkpoints:
        if not run.complete(name):
            faults.append(f"checkpoints/{name}: no finished checkpoint, but the run's records name it")
    return Verified(len(names), len(checkpoints), sorted(set(faults)))


def _counts(run: RunDir, number: int) -> list[str]:
    part = run.round(number, "rollouts/part-00000.jsonl")
    try:
        wanted = read_json(run.round(number, "rollouts/manifest.json"))["rows"]
    except (SelfevoError, KeyError, TypeError) as error:
        return [f"rounds/{number:04d}/rollouts/manifest.json: not readable ({error})"]
    found = part.read_bytes().count(b"\n") if part.exists() else 0
    name = part.relative_to(run.root).as_posix()
    return [] if found == wanted else [f"{name}: {found} rows, its manifest says {wanted}"]
