"""What every finished file of a run should hold, so that a single changed byte is found and named.

`checksums.jsonl` has a line for each file that is about to take its place, so that a kill in between is no fault. Each
line carries a digest of itself and of all lines before it; `run.json` says how many lines there are, and their last
digest. So a line or a record that was changed, lost, cut off or doubled is found as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from selfevo_jax.checkpoint import NOTE, noted
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.run.files import MAX_JSON, to_json, write_file
from selfevo_jax.storage import storage_of
from selfevo_jax.untrusted import read_bounded

FILE, HEAD = "checksums.jsonl", "run.json"
FORMAT = 2
"""Of a run directory. 1 had no checksums of its own records, and rollouts without token ids."""
READERS = 8
"""Files of a checkpoint that are read side by side."""


@dataclass(frozen=True)
class Line:
    """What a file holds: its digest, with the name of its kind (None: it is gone, or will be made anew), and its size
    in bytes."""

    digest: str | None
    size: int = 0


def content_digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Checksums:
    """The newest two lines of a file count: its content is that of the newest, or that of before where a kill came."""

    def __init__(self, root: Path) -> None:
        self.root, self.file, self.head = root, root / FILE, root / HEAD
        self._storage = storage_of(root)
        self._out = self._storage.lines(self.file)
        self._known: dict[str, list[Line]] | None = None
        self._count, self._chain = 0, ""
        self._kept: bytes | None = None
        """The lines that can be read, where others stand behind them that cannot."""
        self._broken: str | None = None
        self._faults: list[str] = []
        self._pending: set[str] = set()
        """Files of lines that do not count yet: a kill, or a live run, may stand between the line and its file."""

    # --- the records themselves

    def record_faults(self) -> list[str]:
        """What is wrong with `checksums.jsonl` and `run.json` themselves."""
        self._lines()
        return list(self._faults)

    def require_whole(self) -> None:
        """Raises SelfevoError where lines of these two records are lost, ConfigError for a run of another format."""
        self.require_format()
        self._lines()
        if self._broken is not None:
            raise SelfevoError(
                f"{self.root}/{self._broken}; restore it from a copy of the run, or begin another run from a finished "
                "point of this one: selfevo fork"
            )

    def repair(self) -> list[str]:
        """Puts these two records in order where nothing is lost by it; says what was wrong. Raises as
        `require_whole`."""
        self.require_whole()
        faults, self._faults = self._faults, []
        self._trim()
        if faults or not self.head.exists():
            self._write_head()
        return [f"{self.root}/{fault}; it was put in order" for fault in faults]

    def require_format(self) -> None:
        """Raises ConfigError for the run of an older or a newer version; nothing where there is no run."""
        found = _unsealed(self.head)
        if found is not None and found.get("format") != FORMAT:
            raise ConfigError(
                f"{self.root}: a run directory of format {found.get('format')}, and this version of selfevo_jax reads "
                f"format {FORMAT}; go on with the version that began the run, or choose another run_dir"
            )
        if not self.head.exists() and (self.root / "config.yaml").exists() and not self._is_chained():
            raise ConfigError(
                f"{self.root}: this run was begun by an older version of selfevo_jax (its directory has no {HEAD} with "
                f"a format version; this version reads format {FORMAT}); go on with that version, or choose another "
                "run_dir"
            )

    def _is_chained(self) -> bool:
        return b'"chain"' in self._out.read()[:MAX_JSON]

    def _trim(self) -> None:
        if self._kept is not None:
            self._out.rewrite(self._kept)
            self._kept = None

    def _write_head(self) -> None:
        write_file(self.head, _sealed({"format": FORMAT, "lines": self._count, "chain": self._chain}))

    # --- what is known of files

    def write(self, path: Path, content: bytes) -> None:
        """Says on disk what a file of the run will hold, and puts it there. Only then does the line count."""
        self._append([(path, Line(content_digest(content), len(content)))], counted=False)
        write_file(path, content)
        self._write_head()
        self._pending.discard(path.relative_to(self.root).as_posix())  # others may still be as a kill left them

    def adopt(self, folder: Path) -> None:
        """Notes what the files below a folder hold that has just been finished: what was noted when it was
        committed, else by reading (in a bucket by its own checksums)."""
        found = self._storage.files(folder)

        known: dict[Path, str] = {}
        for place in {file.parent for file in found if file.name == NOTE}:
            known |= {place / name: digest for name, digest in (noted(place) or {}).items()}

        def look(file: Path) -> Line:
            return Line(known.get(file) or self._storage.checksum(file), self._storage.size(file))

        with ThreadPoolExecutor(READERS) as pool:
            self._append(list(zip(found, pool.map(look, found), strict=True)))

    def forget(self, path: Path) -> None:
        """A file, or the files below a folder, will be made anew, or be gone."""
        one = path.relative_to(self.root).as_posix()
        names = [one] if self._newest(one) is not None else self.names(path)
        self._append([(self.root / name, Line(None)) for name in names])

    def digest(self, path: Path) -> str | None:
        """The newest digest of a file; None where nothing is known of it."""
        found = self._newest(path.relative_to(self.root).as_posix())
        return None if found is None else found.digest

    def is_pending(self, path: Path) -> bool:
        """Whether a kill may have come before a file took its place."""
        self._lines()
        return path.relative_to(self.root).as_posix() in self._pending

    def was(self, path: Path, content: bytes) -> bool:
        """Whether a file of the run has ever had this content."""
        lines = self._lines().get(path.relative_to(self.root).as_posix(), [])
        return content_digest(content) in {line.digest for line in lines}

    def _newest(self, name: str) -> Line | None:
        lines = self._lines().get(name)
        return lines[-1] if lines and lines[-1].digest is not None else None

    def fault(self, path: Path) -> str | None:
        """What is wrong with a file, by its name; None where it is as it should be, or nothing is known of it."""
        return self._compare(path)[1]

    def size_fault(self, path: Path) -> str | None:
        """`fault`, by presence and size alone."""
        name = path.relative_to(self.root).as_posix()
        if self._newest(name) is None:
            return None
        if not path.is_file():
            return None if name in self._pending else f"{name}: missing"
        found, held = self._storage.size(path), self._lines()[name][-2:]
        wanted = {line.size for line in held if line.digest is not None}
        return None if found in wanted else f"{name}: its content has changed"

    def _compare(self, path: Path) -> tuple[Line | None, str | None]:
        """The line that a file agrees with, and what is wrong where it agrees with none."""
        name = path.relative_to(self.root).as_posix()
        if self._newest(name) is None:
            return None, None
        if not path.is_file():
            return None, None if name in self._pending else f"{name}: missing"
        for line in reversed(self._lines()[name][-2:]):
            if line.digest is not None and line.digest == self._storage.checksum(path, _kind(line.digest)):
                return line, None
        return None, f"{name}: its content has changed"

    def names(self, folder: Path | None = None) -> list[str]:
        """The files of which something is known, all or those below a folder."""
        below = "" if folder is None else folder.relative_to(self.root).as_posix() + "/"
        return [name for name in self._lines() if name.startswith(below) and self._newest(name) is not None]

    def faults(self, folder: Path | None = None) -> Iterator[str]:
        """The faults of the files that are there."""
        for name in self.names(folder):
            path = self.root / name
            if path.exists() and (fault := self.fault(path)) is not None:
                yield fault

    def require(self, path: Path) -> None:
        """Raises SelfevoError where a file, or one below a folder, is not what it should be."""
        self.refuse(next(self.faults(path), None) if path.is_dir() else self.fault(path) if path.exists() else None)

    def refuse(self, fault: str | None) -> None:
        """Raises SelfevoError for a fault."""
        if fault is None:
            return
        parts = PurePosixPath(fault.split(":", maxsplit=1)[0]).parts
        if parts[0] == "checkpoints" and len(parts) > 2:
            remedy = f"or remove the folder {self.root}/{'/'.join(parts[:2])} to have the checkpoint trained anew"
        else:
            remedy = "or remove it to have it made anew"
        raise SelfevoError(f"{self.root}/{fault} since it was finished; restore it from a copy of the run, {remedy}")

    def settle(self, names: Iterable[str]) -> None:
        """`require` for files when a run goes on; where a write never took place, what is there counts as the newest
        again, however often that happens."""
        behind = []
        for path in (self.root / name for name in names):
            if not path.exists():
                continue
            found, fault = self._compare(path)
            self.refuse(fault)
            if found is not None and found.digest != self.digest(path):
                behind.append((path, found))
        self._append(behind)

    # --- lines

    def _append(self, lines: Sequence[tuple[Path, Line]], counted: bool = True) -> None:
        known = self._lines()
        if not lines:
            return
        self._trim()
        written = []
        for path, line in lines:
            name = path.relative_to(self.root).as_posix()
            row = {"file": name, "digest": line.digest, "bytes": line.size}
            self._chain = _linked(self._chain, row)
            written.append(json.dumps(row | {"chain": self._chain}, ensure_ascii=False) + "\n")
            known.setdefault(name, []).append(line)
        self._out.append("".join(written).encode("utf-8"))
        self._out.close()
        self._count += len(lines)
        if counted:
            self._write_head()

    def _lines(self) -> dict[str, list[Line]]:
        """Lines by file, old ones first."""
        if self._known is None:
            head = _unsealed(self.head)  # before the lines: a live run adds to them first
            self._known = {}
            *whole, torn = (content := self._out.read()).split(b"\n")
            good = 0
            for number, text in enumerate(whole, start=1):
                try:
                    name, line, chain = _read(text, self._chain)
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    self._faults.append(f"{FILE}:{number}: not what was written there ({error})")
                    break
                self._known.setdefault(name, []).append(line)
                if head is not None and number > head.get("lines", 0):
                    self._pending.add(name)
                self._count, self._chain, good = number, chain, good + len(text) + 1
                if head is not None and number == head.get("lines") and chain != head.get("chain"):
                    self._faults.append(f"{FILE}:{number}: not the line that {HEAD} speaks of")
                    self._broken = self._faults[-1]
            self._judge(head, whole, torn)
            self._kept = content[:good] if good < len(content) else None
        return self._known

    def _judge(self, head: dict[str, Any] | None, whole: list[bytes], torn: bytes) -> None:
        """What the faults of the lines come to."""
        if head is None:
            if self._broken is None and self._faults:
                self._broken = self._faults[-1]
            if whole or torn or self.head.exists():
                self._faults.append(f"{HEAD}: {'its content has changed' if self.head.exists() else 'missing'}")
        elif self._count < (told := int(head.get("lines", 0))):
            if not self._faults:
                there = f"{self._count} lines, {HEAD} says {told}" if whole or torn else "missing"
                self._faults.append(f"{FILE}: {there}")
            self._broken = self._faults[-1]


def _kind(digest: str) -> str:
    return digest.partition(":")[0]


def _linked(chain: str, row: dict[str, Any]) -> str:
    return hashlib.sha256(f"{chain}{json.dumps(row, sort_keys=True)}".encode()).hexdigest()[:16]


def _sealed(tree: dict[str, Any]) -> bytes:
    """JSON with a digest of itself."""
    tree = {key: value for key, value in tree.items() if key != "sha256"}
    return to_json(tree | {"sha256": hashlib.sha256(to_json(tree)).hexdigest()})


def _unsealed(path: Path) -> dict[str, Any] | None:
    """What `_sealed` made; None where there is nothing, or it has changed."""
    if not path.exists():
        return None
    content = read_bounded(path, MAX_JSON, SelfevoError, "move it away and run again")
    try:
        tree = json.loads(content)
        whole = isinstance(tree, dict) and _sealed(tree) == content
    except (ValueError, TypeError, RecursionError):
        return None
    return tree if whole else None


def _read(text: bytes, chain: str) -> tuple[str, Line, str]:
    """The file below the run directory that a line speaks of, what it holds, and the digest of the lines so far."""
    row = json.loads(text.decode("utf-8"))
    found, name, digest, size = row.pop("chain"), row["file"], row["digest"], row["bytes"]
    if not isinstance(name, str) or not isinstance(digest, str | None) or not isinstance(size, int):
        raise TypeError("expected a name, a digest and a size")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"'{name}' is no file of this run")
    if found != _linked(chain, row):
        raise ValueError("changed, or a line before it is lost or doubled")
    return name, Line(digest, size), found
