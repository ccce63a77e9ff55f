"""A run that begins with what other runs have made of the same inputs, so that no phase is computed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfevo_jax.config import Config
from selfevo_jax.errors import SelfevoError
from selfevo_jax.progress import Reporter
from selfevo_jax.run.artefacts import Artefact, artefacts, inputs
from selfevo_jax.run.files import read_json
from selfevo_jax.run.forking import RECORD, bring, prints_of, require_sound
from selfevo_jax.run.names import FORKING
from selfevo_jax.run.run_dir import RunDir


@dataclass(frozen=True)
class Shared:
    """An artefact that a run takes from another one."""

    artefact: str
    source: str
    """The other run's directory."""


def share(config: Config, sources: Sequence[RunDir], reporter: Reporter) -> list[Shared]:
    """Begins the run of a config with every artefact that one of the sources has finished from equal inputs.

    Inputs are the values of the keys that an artefact and all that it is made from rest on (`run.artefacts`), and the
    fingerprints of the model and the files behind them, which the run compares when it is opened. Of several sources
    the first counts. Files are compared with their checksums, then linked (on one disk) or copied; `fork.json` names
    where each came from. Where there is nothing to take no run is begun. A call that was broken off is made whole by
    the same call; where a run is begun already, call `shared`.

    Raises SelfevoError where a file to take is not what its run has written, or sources rest on other contents of the
    same file.
    """
    new, to = inputs(config), RunDir(config.run_dir)
    known = [(run, *_made(run.read_config()), frozenset(run.sums.names())) for run in sources if _is_own(run)]
    files: dict[str, RunDir] = {}
    prints: dict[str, str] = {}
    found: list[tuple[Artefact, RunDir, list[str]]] = []
    for artefact in artefacts(config):
        wanted = artefact.rests_on(new)
        for run, given, kinds, names in known:
            taken = artefact.of(names)
            if not taken or kinds.get(artefact.name) != artefact.kinds or artefact.rests_on(given) != wanted:
                continue
            found.append((artefact, run, taken))
            rested = prints_of(run, artefact.kinds)
            if other := [key for key in rested if prints.get(key, rested[key]) != rested[key]]:
                raise SelfevoError(
                    f"{run.root}: {other[0]} has another content there than in {found[0][1].root}, so {to.root} cannot "
                    "rest on both; restore the old content, or remove the older run"
                )
            prints |= rested
            files |= dict.fromkeys(taken, run)
            break
    if not found and not (to.root / FORKING).exists():
        return []
    for source in {run.root: run for run in files.values()}.values():
        remedy = "restore the file from a copy, or remove that run to have it made anew"
        require_sound(source, [name for name, run in files.items() if run is source], remedy)
    record = {
        "shared": {artefact.name: str(run.root) for artefact, run, _ in found},
        "files": {name: run.sums.digest(run.root / name) for name, run in files.items()},
    }
    bring(files, to, config, record, prints, f"taking what other runs have for {to.root}", reporter)
    return [Shared(artefact.name, str(run.root)) for artefact, run, _ in found]


def shared(run: RunDir) -> list[Shared]:
    """What a run has taken from others, by its own record."""
    record = run.root / RECORD
    taken = read_json(record).get("shared", {}) if record.exists() else {}
    return [Shared(artefact, source) for artefact, source in taken.items()]


def _made(config: Config) -> tuple[dict[str, Any], dict[str, frozenset[str]]]:
    """The inputs of a config, and the kinds of each of its artefacts."""
    return inputs(config), {artefact.name: artefact.kinds for artefact in artefacts(config)}


def _is_own(run: RunDir) -> bool:
    """Whether a run is there, and made by its own config: the kept rounds of a fork may have had another one."""
    record = run.root / RECORD
    if not run.is_begun():
        return False
    return not record.exists() or not read_json(record).get("changed")
