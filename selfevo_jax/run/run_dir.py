"""The run directory: the only state of a run.

A file is there whole or not at all; a phase counts when its last file is there. Several processes of one
run share the directory: process 0 alone writes, and what is there is what process 0 sees.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.checkpoint import ARRAYS, ASIDE, free_name, is_complete, read_metadata
from selfevo_jax.config import Config, load_config
from selfevo_jax.data import jsonl_lines
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.run.checksums import FILE, HEAD, Checksums
from selfevo_jax.run.files import read_json, read_rows, to_json, write_file
from selfevo_jax.run.identity import identity
from selfevo_jax.run.joining import Joining, finished_files
from selfevo_jax.run.journal import Journal, encoded
from selfevo_jax.run.lock import Owner, RunLock
from selfevo_jax.run.names import CHECKPOINTS, CONFIG, FORKING, REMOVED, STUDY
from selfevo_jax.run.paths import Paths
from selfevo_jax.run.same import check_hosts
from selfevo_jax.storage import did_you_mean, place, storage_of


class RunDir(Paths):
    """The records of one run, by their paths.

    Of several processes, every one calls the methods under "what every process calls" and `open`, in the same order:
    process 0 decides and writes, and when a call returns, all know or see the same.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(place(root))
        self._storage = storage_of(self.root)
        self._storage.reach(self.root)
        if any(os.path.lexists(self.root / name) for name in (CONFIG, HEAD, FILE, FORKING)):
            self._storage.refuse_links(self.root)  # in a folder of anything else there may be some
        self.sums = Checksums(self.root)
        self.notes: list[str] = []
        """What was put in order, a line each, as process 0 knows it."""
        self.identity = ""
        """A digest of what this run computes; known since `open`."""
        self._lost: set[str] = set()
        self.aside: list[Path] = []
        """Where files were moved to whose writing a kill broke off, as process 0 knows it since `open`."""
        self._lock = RunLock(self.root)

    def append_cost(self, row: dict[str, Any]) -> None:
        """By the process that measured: the others do not wait for it."""
        if hosts.is_writer():
            rows = read_rows(self.costs_file) if self.costs_file.exists() else []
            self._put(self.costs_file, b"".join(jsonl_lines([*rows, row])))

    def put_page(self, content: bytes) -> None:
        """By the process that writes: the others do not wait for it."""
        if hosts.is_writer():
            self._put(self.page_file, content)

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
            folder = self.root / CHECKPOINTS
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
        self.write(path, lambda: to_json(value))

    def write_rows(self, path: Path, rows: Iterable[Any]) -> None:
        """Dataclasses or mappings as JSON Lines."""
        self.write(path, lambda: b"".join(jsonl_lines(rows)))
        if hosts.is_writer():
            self._storage.lines(path).replaced()

    def seal(self, folder: Path) -> None:
        """Notes what the files of a finished checkpoint hold, where that is not known yet."""

        def adopt() -> None:
            if not self.sums.names(folder):
                self._lock.check()
                self.sums.adopt(folder)
            self._lost = {name for name in self._lost if not name.startswith(f"{self._name(folder)}/")}

        hosts.agree(f"sealing {self._name(folder)}", adopt)

    def forget(self, folder: Path) -> None:
        """The files of a checkpoint will be made anew."""
        if hosts.is_writer():
            self._lock.check()
            self.sums.forget(folder)

    def counted(self, part: Path) -> dict[str, Any]:
        """How many rows a finished file of lines has, and its digest."""
        return hosts.agree(
            f"counting {self._name(part)}",
            lambda: {"rows": part.read_bytes().count(b"\n"), "digest": self.sums.digest(part)},
        )

    def finished_files(self) -> list[str]:
        """The names of the files of which the digest is known, but for lines that grow again."""
        return finished_files(self.root, self.sums)

    def require(self, path: Path) -> None:
        """Raises SelfevoError where a file, or one below a folder, has changed since it was finished."""
        hosts.agree(f"checking {self._name(path)}", lambda: self.sums.require(path))

    def write(self, path: Path, make: Callable[[], bytes]) -> None:
        """A finished file, as process 0 makes it. Raises LockError where another process owns the run."""
        if hosts.is_writer():
            self._put(path, make())
        hosts.gather(f"writing {self._name(path)}", None)

    def _put(self, path: Path, content: bytes) -> None:
        self._lock.check()
        name = self._name(path)
        if name in self._lost and name.endswith(".jsonl") and not self.sums.was(path, content):
            raise SelfevoError(
                f"{path}: missing, and made anew it is not what it was; what comes after it rests on it. Restore it "
                "from a copy of the run, or begin another run from an earlier point: selfevo fork"
            )
        self.sums.write(path, content)
        self._lost.discard(name)

    def journal(self, path: Path, among: Collection[Hashable] | None = None) -> Journal:
        """A journal that process 0 keeps; the others have the same rows: those `among` certain ones, or all.

        What is no row of this run and file is moved to quarantine.
        """
        options: dict[str, Any] = {"belongs": f"{self.identity} {self._name(path)}", "among": among}
        if hosts.is_writer():
            self._reopen(path, options["belongs"])
        own = Journal(path, check=self._lock.check, **options) if hosts.is_writer() else None
        if own is not None and own.bad:
            there = free_name(path, self.root / ASIDE)
            write_file(there, b"".join(line + b"\n" for line in own.bad))
            self.notes.append(
                f"{path}: {len(own.bad)} of {len(own.bad) + len(own.rows)} rows are changed, doubled or of another "
                f"run; they are moved to quarantine ({there}), and what is missing is sampled again"
            )
        length = hosts.agree(f"opening {self._name(path)}", lambda: len(own.rows) if own is not None else 0)
        return Journal(path, follows=length, **options) if own is None else own

    def _reopen(self, path: Path, belongs: str) -> None:
        """A file that was finished when a kill came before the phase was grows again, from what it holds."""
        if self.sums.digest(path) is None:
            return
        if path.exists() and self.sums.fault(path) is None:
            self._lock.check()
            self._storage.lines(path).rewrite(b"".join(encoded(row, belongs) for row in read_rows(path)))
        self.sums.forget(path)

    def take_notes(self) -> list[str]:
        """What was put in order since the last call, a line each; empty on every process but 0."""
        notes, self.notes = self.notes, []
        return notes

    def lost(self, path: Path | None = None) -> bool:
        """Whether a finished file (this one, one below this folder, or any) is missing and not made anew yet."""
        name = "" if path is None else self._name(path)
        return hosts.agree(
            f"whether {name or 'a file'} is lost",
            lambda: any(not name or lost == name or lost.startswith(f"{name}/") for lost in self._lost),
        )

    def finished(self, path: Path) -> bool:
        """Whether a file is there as it was finished."""
        return hosts.agree(
            f"whether {self._name(path)} is finished",
            lambda: path.exists() and self.sums.digest(path) is not None and self.sums.fault(path) is None,
        )

    def _name(self, path: Path) -> str:
        """The same on all hosts, wherever each has mounted the directory."""
        return path.relative_to(self.root).as_posix()

    def open(self, config: Config, fingerprints: dict[str, str]) -> Owner | None:
        """Begins a run here or joins the one that is here, and locks it until `close`.

        Returns the owner from whom the lock was taken over, if there was one. Raises ConfigError with the differing
        keys for a run with another config, model, tokenizer or template, for a run of another format, or when the
        processes of this run do not agree on them or on the directory; LockError when another process owns it;
        SelfevoError where records of the run are lost.
        """
        check_hosts(self.root, config, fingerprints)
        self.identity = identity(config, fingerprints)
        before = None
        if hosts.is_writer():
            with hosts.working("opening the run directory"):
                self.require_free()
                self._storage.refuse_links(self.root)
                before = self._lock.acquire()
                self.sums = Checksums(self.root)  # what others have written until now
                try:
                    joining = Joining(self.root, self.sums)
                    joining.join(config, fingerprints)
                    self.aside, self.notes, self._lost = joining.aside, joining.notes, joining.lost
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
            self.require_free()
            if self.config_file.exists() or self.sums.head.exists():
                raise ConfigError(f"{self.root}: a run is there already; choose another directory")
        self._storage.refuse_links(self.root)
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
                    self.sums.write(self.root / name, content)
                begun.unlink()

            yield finish
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes out of a finished run while process 0 puts its page here. Raises LockError."""
        self._lock.acquire()
        try:
            self.sums = Checksums(self.root)  # what others have written until now
            yield
        finally:
            self._lock.release()

    @property
    def owner(self) -> Owner | None:
        """This process, while it owns the run."""
        return self._lock.own

    def check(self) -> None:
        """Raises LockError where another process owns the run by now. Safe in any thread."""
        if hosts.is_writer():
            self._lock.check()

    def close(self) -> None:
        """Lets other processes in."""
        self._lock.release()

    def require_free(self) -> None:
        """That this is a run directory or can become one, before anything is written."""
        if (self.root / FORKING).exists():
            raise ConfigError(
                f"{self.root}: a fork was broken off here; run the same `selfevo fork` or `selfevo study` again"
            )
        self.sums.require_format()
        if self.config_file.exists() or self.sums.head.exists() or not self.root.exists() or self.sums.names():
            return
        # a folder that was made in the console of a bucket is listed in itself, where it is not
        if any(not file.name.startswith(".") and file.exists() for file in self.root.iterdir()):
            raise ConfigError(f"{self.root}: not empty and not a run directory; choose another run_dir")

    def is_begun(self) -> bool:
        """Whether a run is here, and not what a fork that was broken off has left."""
        return self.config_file.exists() and not (self.root / FORKING).exists()

    def require_run(self) -> None:
        """Raises ConfigError where there is no run, or one of another format."""
        self.sums.require_format()
        if not self.config_file.exists() and not self.sums.head.exists():
            if (self.root / STUDY).exists():
                told = f"name one of its runs, such as {self.root}/VARIANT/seed-N, or look at the study's table.txt"
                raise ConfigError(f"{self.root}: no run directory, but the folder of a study; {told}")
            there = f"{CONFIG} is missing" if self.root.exists() else f"nothing there{did_you_mean(self.root)}"
            raise ConfigError(f"{self.root}: no run directory ({there}); `selfevo evolve CONFIG` makes it")

    def read_config(self) -> Config:
        """Raises ConfigError where there is no run, or one of another format."""
        self.require_run()
        if not self.config_file.exists():
            raise ConfigError(
                f"{self.root}: {CONFIG} is missing; selfevo evolve with the run's config makes it anew, or restore it "
                "from a copy of the run"
            )
        return load_config(self.config_file)
