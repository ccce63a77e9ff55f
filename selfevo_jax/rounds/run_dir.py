"""The run directory: the only state of a run, and the one place that knows its paths.

Files are written to a temporary name and moved; a phase counts when its last file is there. Several processes of one
run share the directory: process 0 alone writes, and what is there is what process 0 sees.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from selfevo_jax import hosts
from selfevo_jax.checkpoint import is_complete, read_metadata
from selfevo_jax.config import Config, dump_config, load_config
from selfevo_jax.data import write_jsonl
from selfevo_jax.errors import ConfigError, SelfevoError

META, COMMITTED, STOPPED = "meta", "COMMITTED", "STOPPED"
"""Name of M_meta; the last file of a phase; what a run leaves that ended before its last round."""


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
)
"""Keys that may differ when a run is resumed: they say how long or where it runs, not what it computes."""


def write_text(path: Path, text: str) -> None:
    """Writes to a temporary name beside `path`, then moves it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises SelfevoError naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SelfevoError(f"{path}: not readable as JSON ({error}); move it away and run again") from error


def read_rows(path: Path, first: int | None = None) -> list[dict[str, Any]]:
    """Rows of a finished JSONL file, or its first ones."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:first] if line]


class Journal:
    """A JSONL file that grows row by row and survives a kill: a torn last line is cut off when it is opened."""

    def __init__(self, path: Path, follows: int | None = None) -> None:
        """With `follows`, the first rows of a file that another process writes: appended rows stay in memory."""
        self.path = path
        self._out: TextIO | None = None
        if follows is not None:
            self.rows = read_rows(path, follows) if follows else []
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = self._recover()
        self._out = path.open("a", encoding="utf-8")

    def _recover(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        rows, good = [], 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(line.decode("utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError):
                break
            if not line.endswith(b"\n") or not isinstance(row, dict):
                break
            rows.append(row)
            good += len(line)
        with self.path.open("r+b") as out:
            out.truncate(good)
        return rows

    def append(self, row: dict[str, Any]) -> None:
        if self._out is not None:
            self._out.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._out.flush()
        self.rows.append(row)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _safe(key: str) -> bool:
    return any(key == safe or key.startswith(f"{safe}.") for safe in SAFE_TO_CHANGE)


def config_differences(old: Config, new: Config) -> list[str]:
    """`key: old -> new` for every key that differs and may not change on resume."""
    before, after = dict(_flat(old.model_dump(mode="json"))), dict(_flat(new.model_dump(mode="json")))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key) and not _safe(key)]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys]


SEEN_SECONDS = 20.0
"""How long a new file may take to be seen by the other hosts of a shared directory."""


class RunDir:
    """Paths and records of one run.

    Of several processes, every one calls the methods under "what every process calls" and `open`, in the same order:
    process 0 decides and writes, and when a call returns, all know or see the same.
    """

    def __init__(self, root: str | Path) -> None:
        if "://" in str(root):
            raise ConfigError(f"run_dir={root}: only local folders can be run directories; mount the bucket")
        self.root = Path(root)

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
            with Journal(self.costs_file) as journal:
                journal.append(row)

    # --- what every process calls

    def has(self, path: Path) -> bool:
        return hosts.agree(f"whether {self._name(path)} is there", path.exists)

    def load(self, path: Path) -> Any:
        """A JSON file as process 0 reads it; None where there is none."""
        return hosts.agree(f"reading {self._name(path)}", lambda: read_json(path) if path.exists() else None)

    def complete(self, name: str) -> bool:
        """Whether a checkpoint of this run was written to its end."""
        return hosts.agree(f"whether checkpoint {name} is complete", lambda: is_complete(self.checkpoint(name)))

    def training(self, name: str) -> dict[str, Any]:
        """What a checkpoint's metadata says of its training."""
        return hosts.agree(
            f"reading the metadata of checkpoint {name}", lambda: read_metadata(self.checkpoint(name))["training"]
        )

    def write_json(self, path: Path, value: Any) -> None:
        if hosts.is_writer():
            write_json(path, value)
        hosts.gather(f"writing {self._name(path)}", None)

    def write_rows(self, path: Path, rows: Iterable[Any]) -> None:
        """Dataclasses or mappings as JSON Lines."""
        if hosts.is_writer():
            write_jsonl(path, rows)
        hosts.gather(f"writing {self._name(path)}", None)

    def journal(self, path: Path) -> Journal:
        """A journal that process 0 keeps; the others have the same rows."""
        own = Journal(path) if hosts.is_writer() else None
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

    def evaluation(self, name: str) -> Path:
        return self.root / "evaluations" / f"{name}.json"

    def texts(self, name: str, set_name: str) -> Path:
        """The rollouts behind an evaluation."""
        return self.root / "evaluations" / name / f"{set_name}.jsonl"

    def open(self, config: Config, fingerprints: dict[str, str]) -> None:
        """Begins a run here or joins the one that is here.

        Raises ConfigError with the differing keys when a run with another config, tokenizer or template lies here, or
        when the processes of this run do not agree on them or on the directory.
        """
        self._check_hosts(config, fingerprints)
        if hosts.is_writer():
            self._join(config, fingerprints)
        hosts.gather("opening the run directory", None)

    def _check_hosts(self, config: Config, fingerprints: dict[str, str]) -> None:
        """That all processes were given the same run: config, data, tokenizer, and one directory."""
        if hosts.count() == 1:
            return
        given = hosts.gather("comparing configs", (config.model_dump(mode="json"), fingerprints))
        old = dict(_flat(given[0][0]))
        for peer, (tree, prints) in zip(hosts.peers(), given, strict=True):
            new = dict(_flat(tree))
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
        def place() -> str:
            token = f".seen-{secrets.token_hex(8)}"
            write_text(self.root / token, token)
            return token

        token = self.root / hosts.agree("placing a file in run_dir", place)
        until = time.monotonic() + SEEN_SECONDS
        while not (seen := token.exists()) and time.monotonic() < until:
            time.sleep(0.2)
        everywhere = hosts.gather("looking for that file", seen)
        if hosts.is_writer():
            token.unlink(missing_ok=True)
        blind = [str(peer) for peer, sees in zip(hosts.peers(), everywhere, strict=True) if not sees]
        if blind:
            raise ConfigError(
                f"run_dir={self.root} is not the same directory on all hosts: {', '.join(blind)} did not see within "
                f"{SEEN_SECONDS:g} s what {hosts.peers()[0]} wrote there; put it on storage that all share"
            )

    def _join(self, config: Config, fingerprints: dict[str, str]) -> None:
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
        elif self.root.exists() and any(not file.name.startswith(".") for file in self.root.iterdir()):
            raise ConfigError(f"{self.root}: not empty and not a run directory; choose another run_dir")
        # the config comes first: it is what tells a run directory from any other
        write_text(self.config_file, dump_config(config))
        write_json(record, fingerprints)

    def read_config(self) -> Config:
        if not self.config_file.exists():
            raise ConfigError(f"{self.root}: no run directory (config.yaml is missing)")
        return load_config(self.config_file)


def checksum(path: Path) -> str:
    """sha256 of a file, as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
