"""The run directory: the only state of a run, and the one place that knows its paths.

A file is there whole or not at all; a phase counts when its last file is there. Several processes of one
run share the directory: process 0 alone writes, and what is there is what process 0 sees.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.checkpoint import ARRAYS, ASIDE, is_complete, read_metadata, set_aside
from selfevo_jax.config import Config, dump_config, load_config
from selfevo_jax.data import jsonl_lines
from selfevo_jax.errors import ConfigError
from selfevo_jax.rounds.checksums import Checksums
from selfevo_jax.rounds.files import read_json, to_json, write_file, write_json
from selfevo_jax.rounds.journal import Journal
from selfevo_jax.rounds.lock import Owner, RunLock
from selfevo_jax.storage import place, storage_of

FORKING = ".forking"
"""In a directory that is to become the run of a fork, until all of it is there."""
META, COMMITTED, STOPPED, REMOVED = "meta", "COMMITTED", "STOPPED", "REMOVED"
"""Name of M_meta; the last file of a phase; what a run leaves that ended before its last round; what is left of a
checkpoint that is not kept."""
SCORES = "rollouts/logprobs.jsonl"
"""Of a round: the log-probabilities of its rollouts."""

LOSSES = "losses.jsonl"
"""Beside the arrays of a checkpoint: step, loss, learning rate, gradient norm and tokens of every step of its training,
a line each."""


def name_of(round: int) -> str:
    """Checkpoint and evaluation name of M_round; round 0 is M_meta."""
    return META if round == 0 else f"{round:04d}"


SAFE_TO_CHANGE = (
    "run_dir",
    "rounds.number",
    "rounds.stop_when_worse",
    "platform",
    "mesh",
    "sampling.slots",
    "sampling.tensor",
    "saving",
)
"""Keys that may differ when a run is resumed: they say how long or where it runs, not what it computes."""


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(full name, value) of every key of a config's tree."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def _safe(key: str) -> bool:
    return any(key == safe or key.startswith(f"{safe}.") for safe in SAFE_TO_CHANGE)


def config_differences(old: Config, new: Config) -> list[str]:
    """`key: old -> new` for every key that differs and may not change on resume."""
    before, after = dict(flat(old.model_dump(mode="json"))), dict(flat(new.model_dump(mode="json")))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key) and not _safe(key)]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys]


class RunDir:
    """Paths and records of one run.

    Of several processes, every one calls the methods under "what every process calls" and `open`, in the same order:
    process 0 decides and writes, and when a call returns, all know or see the same.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = place(root)
        self._storage = storage_of(self.root)
        self._storage.reach(self.root)
        self.sums = Checksums(self.root)
        self.notes: list[str] = []
        """What was put in order since `open`, a line each, as process 0 knows it."""
        self.aside: list[Path] = []
        """Where files were moved to whose writing a kill broke off, as process 0 knows it since `open`."""
        self._lock = RunLock(self.root)

    @property
    def config_file(self) -> Path:
        return self.root / "config.yaml"

    @property
    def report_file(self) -> Path:
        return self.root / "report.json"

    @property
    def costs_file(self) -> Path:
        """Tokens, steps and seconds of every rollout, one line each: the one record that differs between equal runs."""
        return self.root / "costs.jsonl"

    def append_cost(self, row: dict[str, Any]) -> None:
        """By the process that measured: the others do not wait for it."""
        if hosts.is_writer():
            with Journal(self.costs_file, check=self._lock.check) as journal:
                journal.append(row)

    # --- what every process calls

    def has(self, path: Path) -> bool:
        return hosts.agree(f"whether {self._name(path)} is there", path.exists)

    def load(self, path: Path) -> Any:
        """A JSON file as process 0 reads it; None where there is none. Raises SelfevoError where it has changed."""

        def read() -> Any:
            self.sums.require(path)
            return read_json(path) if path.exists() else None

        return hosts.agree(f"reading {self._name(path)}", read)

    def complete(self, name: str) -> bool:
        """Whether a checkpoint of this run was written to its end, and perhaps removed since by `saving.keep_last`."""
        folder = self.checkpoint(name)
        return hosts.agree(
            f"whether checkpoint {name} is complete", lambda: is_complete(folder) or (folder / REMOVED).exists()
        )

    def removed(self, name: str) -> bool:
        """Whether only the records of a checkpoint are left."""
        return self.has(self.checkpoint(name) / REMOVED)

    def remove(self, name: str) -> None:
        """Removes the arrays of a checkpoint that is not kept; its small files stay."""
        self.write_json(self.checkpoint(name) / REMOVED, {"checkpoint": name, "why": "saving.keep_last"})
        self._remove_arrays(name)

    def finish_removals(self) -> list[str]:
        """Removes what a kill between the record of a removal and its end has left; the names of the checkpoints."""

        def begun() -> list[str]:
            folder = self.root / "checkpoints"
            names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
            return [n for n in names if (folder / n / REMOVED).exists() and (folder / n / ARRAYS).exists()]

        names = hosts.agree("looking for removals that are not finished", begun)
        for name in names:
            self._remove_arrays(name)
        return names

    def _remove_arrays(self, name: str) -> None:
        def remove() -> None:
            self._lock.check()
            arrays = self.checkpoint(name) / ARRAYS
            self.sums.forget(arrays)
            self._storage.remove(arrays)

        hosts.agree(f"removing checkpoint {name}", remove)

    def training(self, name: str) -> dict[str, Any]:
        """What a checkpoint's metadata says of its training."""
        return hosts.agree(
            f"reading the metadata of checkpoint {name}", lambda: read_metadata(self.checkpoint(name))["training"]
        )

    def write_json(self, path: Path, value: Any) -> None:
        self._write(path, lambda: to_json(value))

    def write_rows(self, path: Path, rows: Iterable[Any]) -> None:
        """Dataclasses or mappings as JSON Lines."""
        self._write(path, lambda: b"".join(jsonl_lines(rows)))
        if hosts.is_writer():
            self._storage.lines(path).replaced()

    def seal(self, folder: Path) -> None:
        """Notes what the files of a finished checkpoint hold, where that is not known yet."""

        def adopt() -> None:
            if not self.sums.names(folder):
                self._lock.check()
                self.sums.adopt(folder)

        hosts.agree(f"sealing {self._name(folder)}", adopt)

    def forget(self, folder: Path) -> None:
        """The files of a checkpoint will be made anew."""
        if hosts.is_writer():
            self._lock.check()
            self.sums.forget(folder)

    def digest(self, path: Path) -> str | None:
        """sha256 of a file that was written, as process 0 knows it."""
        return hosts.agree(f"the digest of {self._name(path)}", lambda: self.sums.digest(path))

    def finished_files(self) -> list[str]:
        """The names of the files of which the digest is known, but for rollouts that grow again."""

        def grows(name: str) -> bool:
            part = self.root / name
            return part.parent.name == "rollouts" and not (part.parent / "manifest.json").exists()

        return [name for name in self.sums.names() if not grows(name)]

    def require(self, path: Path) -> None:
        """Raises SelfevoError where a file, or one below a folder, has changed since it was finished."""
        hosts.agree(f"checking {self._name(path)}", lambda: self.sums.require(path))

    def _write(self, path: Path, make: Callable[[], bytes]) -> None:
        if hosts.is_writer():
            self._lock.check()
            content = make()
            self.sums.expect(path, content)
            write_file(path, content)
        hosts.gather(f"writing {self._name(path)}", None)

    def journal(self, path: Path) -> Journal:
        """A journal that process 0 keeps; the others have the same rows."""
        own = Journal(path, check=self._lock.check) if hosts.is_writer() else None
        length = hosts.agree(f"opening {self._name(path)}", lambda: len(own.rows) if own is not None else 0)
        return Journal(path, follows=length) if own is None else own

    def _name(self, path: Path) -> str:
        """The same on all hosts, wherever each has mounted the directory."""
        return path.relative_to(self.root).as_posix()

    # --- paths

    def meta(self, name: str) -> Path:
        return self.root / "meta" / name

    def round(self, number: int, name: str) -> Path:
        return self.root / "rounds" / f"{number:04d}" / name

    def checkpoint(self, name: str) -> Path:
        return self.root / "checkpoints" / name

    def training_states(self, name: str) -> Path:
        """The states inside the fine-tuning that ends in a checkpoint, while it goes on."""
        return self.root / "training" / name

    def evaluation(self, name: str) -> Path:
        return self.root / "evaluations" / f"{name}.json"

    def texts(self, name: str, set_name: str) -> Path:
        """The rollouts behind an evaluation."""
        return self.root / "evaluations" / name / f"{set_name}.jsonl"

    def open(self, config: Config, fingerprints: dict[str, str]) -> Owner | None:
        """Begins a run here or joins the one that is here, and locks it until `close`.

        Returns the owner from whom the lock was taken over, if there was one. Raises ConfigError with the differing
        keys for a run with another config, model, tokenizer or template, for a run of another format, or when the
        processes of this run do not agree on them or on the directory; LockError when another process owns it;
        SelfevoError where records of the run are lost.
        """
        self._check_hosts(config, fingerprints)
        before = None
        if hosts.is_writer():
            with hosts.working("opening the run directory"):
                self._refuse_others()
                before = self._lock.acquire()
                self.sums = Checksums(self.root)  # what others have written until now
                try:
                    self._join(config, fingerprints)
                except BaseException:
                    self._lock.release()
                    raise
        hosts.gather("opening the run directory", None)
        return before

    @contextlib.contextmanager
    def made_at_once(self, top: Iterable[str]) -> Iterator[Callable[[dict[str, bytes]], None]]:
        """Makes a whole run here, by this process alone, of files that are brought from elsewhere.

        Args: `top`: the folders below the run directory that the files are brought to. The caller brings them within
        the block, and ends it by a call of what it is given, with the content of the run's own records.

        What is broken off is no run, and is begun anew by the next call. Raises ConfigError where the folder is not
        free, LockError where another process owns it.
        """
        begun, folders = self.root / FORKING, [self.root / name for name in top]
        if not begun.exists():
            self._refuse_others()
            if self.config_file.exists() or self.sums.head.exists():
                raise ConfigError(f"{self.root}: a run is there already; choose another directory")
        self._lock.acquire()
        try:
            write_file(begun, b"")
            for folder in folders:
                self._storage.remove(folder)
            for record in (self.sums.file, self.sums.head):
                self._storage.lines(record).rewrite(b"")
                record.unlink(missing_ok=True)
            self.sums = Checksums(self.root)

            def finish(records: dict[str, bytes]) -> None:
                for folder in folders:
                    self.sums.adopt(folder)
                for name, content in records.items():
                    self._lock.check()
                    self.sums.expect(self.root / name, content)
                    write_file(self.root / name, content)
                begun.unlink()

            yield finish
        finally:
            self._lock.release()

    def close(self) -> None:
        """Lets other processes in."""
        self._lock.release()

    def _check_hosts(self, config: Config, fingerprints: dict[str, str]) -> None:
        """That all processes were given the same run: config, data, tokenizer, and one directory."""
        if hosts.count() == 1:
            return
        given = hosts.gather("comparing configs", (config.model_dump(mode="json"), fingerprints))
        old = dict(flat(given[0][0]))
        for peer, (tree, prints) in zip(hosts.peers(), given, strict=True):
            new = dict(flat(tree))
            names = [k for k in {**old, **new} if old.get(k) != new.get(k) and k != "run_dir"]
            differences = [f"{k}: {old.get(k)!r} on process 0, {new.get(k)!r} there" for k in names]
            differences += [f"{k}: other content" for k in given[0][1] if given[0][1][k] != prints.get(k)]
            if differences:
                raise ConfigError(
                    f"{peer} was given another run than process 0:\n  "
                    + "\n  ".join(differences)
                    + "\nGive all hosts the same config, overrides and data"
                )
        self._check_shared()

    def _check_shared(self) -> None:
        def leave() -> str:
            token = f".seen-{secrets.token_hex(8)}"
            write_file(self.root / token, token.encode())
            return token

        token = self.root / hosts.agree("placing a file in run_dir", leave)
        blind = hosts.blind("looking for that file", token.exists)
        if hosts.is_writer():
            token.unlink(missing_ok=True)
        if blind:
            raise ConfigError(
                f"run_dir={self.root} is not the same directory on all hosts: {', '.join(map(str, blind))} did not see "
                f"what {hosts.peers()[0]} wrote there; put it on storage that all share"
            )

    def _refuse_others(self) -> None:
        """That this is a run directory or can become one, before anything is written."""
        if (self.root / FORKING).exists():
            raise ConfigError(f"{self.root}: a fork was broken off here; run the same `selfevo fork` again")
        self.sums.require_format()
        if self.config_file.exists() or self.sums.head.exists() or not self.root.exists():
            return
        # a folder that was made in the console of a bucket is listed in itself, where it is not
        if any(not file.name.startswith(".") and file.exists() for file in self.root.iterdir()):
            raise ConfigError(f"{self.root}: not empty and not a run directory; choose another run_dir")

    def _join(self, config: Config, fingerprints: dict[str, str]) -> None:
        # the records of checks come first: run.json tells a run directory, and its format, from any other
        self.notes = self.sums.repair()
        record = self.root / "fingerprints.json"
        if self.config_file.exists():
            differences = config_differences(load_config(self.config_file), config)
            known = read_json(record) if record.exists() else fingerprints
            differences += [f"{k}: other content than at the start" for k in known if known[k] != fingerprints.get(k)]
            if differences:
                raise ConfigError(
                    f"{self.root}: a run with another config lies here:\n  "
                    + "\n  ".join(differences)
                    + "\nUse its config, or another run_dir"
                )
        self.aside = [
            set_aside(file, self.root / ASIDE)
            for file in self._storage.files(self.root)
            if fnmatch(file.name, ".*.tmp") and ASIDE not in file.relative_to(self.root).parts
        ]
        # checkpoints are checked when they are read: they may be large
        self.sums.settle(name for name in self.finished_files() if not name.startswith("checkpoints/"))
        write_file(self.config_file, dump_config(config).encode("utf-8"))
        write_json(record, fingerprints)

    def read_config(self) -> Config:
        """Raises ConfigError where there is no run, or one of another format."""
        self.sums.require_format()
        if not self.config_file.exists():
            raise ConfigError(f"{self.root}: no run directory (config.yaml is missing)")
        return load_config(self.config_file)
