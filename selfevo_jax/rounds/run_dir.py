"""The run directory: the only state of a run, and the one place that knows its paths.

Files are written to a temporary name and moved; a phase counts when its last file is there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from selfevo_jax.config import Config, dump_config, load_config
from selfevo_jax.errors import ConfigError, SelfevoError

META, COMMITTED, STOPPED = "meta", "COMMITTED", "STOPPED"
"""Name of M_meta; the last file of a phase; what a run leaves that ended before its last round."""


def name_of(round: int) -> str:
    """Checkpoint and evaluation name of M_round; round 0 is M_meta."""
    return META if round == 0 else f"{round:04d}"


SAFE_TO_CHANGE = ("run_dir", "rounds.number", "rounds.stop_when_worse", "platform", "mesh", "sampling.slots")
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


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a finished JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


class Journal:
    """A JSONL file that grows row by row and survives a kill: a torn last line is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows = self._recover()
        self._out: TextIO = path.open("a", encoding="utf-8")

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
        self._out.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._out.flush()
        self.rows.append(row)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
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


class RunDir:
    """Paths and records of one run."""

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
        with Journal(self.costs_file) as journal:
            journal.append(row)

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

        Raises ConfigError with the differing keys when a run with another config, tokenizer or template lies here.
        """
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
