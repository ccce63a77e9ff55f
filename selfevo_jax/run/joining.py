"""What is done when a process joins the run that is in a directory: its files are looked at, and put in order.

What nothing rests on, and what follows from the config and the data, is made anew, with a note. A finished file that
is missing is made anew by its phase. One that has changed is refused: a person decides whether there is a copy.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from selfevo_jax.checkpoint import ASIDE, is_complete, set_aside
from selfevo_jax.config import Config, dump_config, load_config
from selfevo_jax.errors import ConfigError, Faults, SelfevoError
from selfevo_jax.run.checksums import READERS, Checksums
from selfevo_jax.run.files import read_json, to_json
from selfevo_jax.run.identity import config_differences, identity
from selfevo_jax.run.names import (
    CHECKPOINTS,
    CODE,
    CONFIG,
    COSTS,
    EVALUATIONS,
    META,
    OPEN,
    ORDINARY,
    PRINTS,
    REMOVED,
    ROUNDS,
    SCORES,
    SHOWN,
)
from selfevo_jax.storage import storage_of

_REMADE = tuple(f"{folder}/" for folder in (META, ROUNDS, EVALUATIONS, OPEN, ORDINARY))
"""Where files are that a phase makes anew."""
_OTHER_CONTENT = "other content than at the start"
_TOLD_ONLY = (COSTS, CODE, *SHOWN)
"""Files that nothing is made from."""
GROWING = dict.fromkeys(("prompts", "rollouts", "judged"), "manifest.json") | {"controls": "../controls.json"}
"""Folders of a round whose lines grow one by one, and the file that is there when they are finished."""
_NOT_READ = tuple(f"{ROUNDS}/*/{name}" for name in (SCORES, "judged/answers.jsonl", "controls/answers.jsonl"))
"""Files of rows that nothing is made from once their phase is finished."""


def _end_of(part: Path) -> Path | None:
    """The file that is there when one whose lines grow is finished; None for a file that does not grow."""
    folder = part.parent
    if folder.name == "texts" and folder.parents[1].name == OPEN:  # what is shown of the texts is written behind them
        return folder.parent / part.name
    end = GROWING.get(folder.name)
    return None if end is None else folder / end


def finished_files(root: Path, sums: Checksums) -> list[str]:
    """The names of the files of which the digest is known, but for journals that grow again."""

    def grows(name: str) -> bool:
        part = root / name
        end = _end_of(part)
        if end is None or part.suffix != ".jsonl" or end.exists():
            return False
        return part.exists() and sums.fault(part) is not None

    return [name for name in sums.names() if not grows(name)]


class Joining:
    """Looks at the files of a run; what it did and found is in its fields."""

    def __init__(self, root: Path, sums: Checksums) -> None:
        self.root, self._sums, self._storage = root, sums, storage_of(root)
        self.aside: list[Path] = []
        """Where files were moved to whose writing a kill broke off."""
        self.notes: list[str] = []
        """What was put in order, a line each."""
        self.lost: set[str] = set()
        """Names of finished files that are missing, for their phases to make anew."""

    def join(self, config: Config, fingerprints: dict[str, str]) -> None:
        """Raises ConfigError with the differing keys for another run, SelfevoError for a file that has changed."""
        # the records of checks come first: run.json tells a run directory, and its format, from any other
        self.notes += self._sums.repair()
        record = fingerprints | {"config": identity(config, fingerprints)}
        self._compare(config, record)
        self.aside = [
            set_aside(file, self.root / ASIDE)
            for file in self._storage.files(self.root)
            if fnmatch(file.name, ".*.tmp") and ASIDE not in file.relative_to(self.root).parts
        ]
        names = self._names()
        self._checkpoints([name for name in names if name.startswith(f"{CHECKPOINTS}/")])
        self._files([name for name in names if not name.startswith(f"{CHECKPOINTS}/")])
        self._write_records(config, record)  # last: what a kill has left is told from a loss until a line counts

    def look(self, config: Config, fingerprints: dict[str, str] | None) -> None:
        """Raises all that `join` would refuse, and writes nothing. Without fingerprints only the config is compared."""
        faults = Faults()
        faults.of(self._sums.require_whole)
        if not faults:
            faults.of(lambda: self._require_same(config, fingerprints))
            for name in self._names():
                path = self.root / name
                if path.exists() and name not in _TOLD_ONLY:  # one that is missing is made anew
                    seen = self._sums.size_fault if name.startswith(f"{CHECKPOINTS}/") else self._sums.fault
                    faults.of(functools.partial(self._sums.refuse, seen(path)))
        faults.refuse()

    def _names(self) -> list[str]:
        return [name for name in finished_files(self.root, self._sums) if name not in (CONFIG, PRINTS)]

    # --- whose run it is

    def _require_same(self, config: Config, fingerprints: dict[str, str] | None) -> None:
        if fingerprints is not None:
            self._compare(config, fingerprints | {"config": identity(config, fingerprints)})
        elif (self.root / CONFIG).exists() and not self._broken(CONFIG):
            self._refuse(config_differences(load_config(self.root / CONFIG), config))

    def _write_records(self, config: Config, record: dict[str, str]) -> None:
        """The two records of whose run it is, again or for the first time."""
        for name, content in ((CONFIG, dump_config(config).encode("utf-8")), (PRINTS, to_json(record))):
            path = self.root / name
            if self._broken(name) or not path.exists() or path.read_bytes() != content:
                self._sums.write(path, content)

    def _compare(self, config: Config, record: dict[str, str]) -> None:
        """Raises what differs from the run that was begun here; notes which of its two records are made anew."""
        known, differences = self._known(record), []
        if known is None or self._broken(CONFIG):
            if known is not None and known.get("config") != record["config"]:
                raise SelfevoError(
                    f"{self.root}/{CONFIG}: missing or changed, and the config given now is not the one that the run "
                    "was begun with; restore it from a copy of the run, or give that config"
                )
            if known is not None and self._sums.digest(self.root / CONFIG) is not None:
                self.notes.append(f"{self.root}/{CONFIG}: missing or changed; it is made anew from the config given")
        elif (self.root / CONFIG).exists():
            differences = config_differences(load_config(self.root / CONFIG), config)
            differences += [f"{k}: {_OTHER_CONTENT}" for k in known if k != "config" and known[k] != record.get(k)]
        self._refuse(differences)

    def _refuse(self, differences: list[str]) -> None:
        if differences:
            content = any(line.endswith(_OTHER_CONTENT) for line in differences)
            told = ". A file with other content: put the old one back, or fork with the new one under another name"
            raise ConfigError(
                f"{self.root}: a run with another config is here:\n  "
                + "\n  ".join(differences)
                + "\nUse its config, another run_dir, or `selfevo fork` with the change"
                + (told if content else "")
            )

    def _known(self, record: dict[str, str]) -> dict[str, str] | None:
        """The fingerprints of the run; None where none was begun."""
        path = self.root / PRINTS
        if not path.exists() and (self._sums.digest(path) is None or self._sums.is_pending(path)):
            return None
        if not self._broken(PRINTS):
            found: dict[str, str] = read_json(path)
            return found
        if not self._sums.was(path, to_json(record)):
            raise SelfevoError(
                f"{path}: missing or changed, and what it said is not true of the config, data and model given now; "
                "restore it from a copy of the run, or give what the run was begun with"
            )
        self.notes.append(f"{path}: missing or changed; it is made anew from the config, data and model given")
        return record

    def _broken(self, name: str) -> bool:
        return self._sums.fault(self.root / name) is not None

    # --- what is there of its files

    def _checkpoints(self, names: Iterable[str]) -> None:
        """By presence and size: they are read when they are used."""
        folders: dict[str, list[str]] = {}
        for name in names:
            folders.setdefault("/".join(name.split("/")[:2]), []).append(name)
        for folder, files in folders.items():
            if not is_complete(self.root / folder) and not (self.root / folder / REMOVED).exists():
                self.lost.update(files)
                self._sums.forget(self.root / folder)
                self.notes.append(f"{self.root}/{folder}: its arrays are missing; the checkpoint is trained anew")
                continue
            with ThreadPoolExecutor(READERS) as pool:
                for fault in pool.map(self._sums.size_fault, [self.root / name for name in files]):
                    self._sums.refuse(fault)

    def _files(self, names: list[str]) -> None:
        for name in names:
            path = self.root / name
            if not path.exists():
                self._missing(name)
            elif name in _TOLD_ONLY and self._broken(name):
                there = set_aside(path, self.root / ASIDE)
                self._sums.forget(path)
                self.notes.append(f"{path}: its content has changed; it is moved to quarantine ({there})")
        self._sums.settle(name for name in names if (self.root / name).exists())

    def _missing(self, name: str) -> None:
        path = self.root / name
        if self._sums.is_pending(path) or name in SHOWN:
            self._sums.forget(path)
        elif name.startswith(_REMADE) and not any(fnmatch(name, one) for one in _NOT_READ):
            self.lost.add(name)
            self.notes.append(f"{path}: missing; it is made anew")
        else:  # the run reads none of these
            self._sums.forget(path)
            self.notes.append(f"{path}: missing; the run goes on without it")
