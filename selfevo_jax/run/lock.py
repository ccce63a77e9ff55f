"""One writer at a time: the lock of a run directory or a file, with its owner's name and signs of life."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from selfevo_jax import hosts
from selfevo_jax.errors import SelfevoError
from selfevo_jax.run.files import to_json
from selfevo_jax.storage import Seen, storage_of

LOCK = ".lock"
BEAT_SECONDS, STALE_SECONDS = 5.0, 60.0
"""Between signs of life; how old the last one is when the owner counts as gone."""


class LockError(SelfevoError):
    """Another process writes in this run directory, or this file."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock."""

    host: str
    machine: str
    """Where its pid means something: host name, boot, and pid namespace."""
    pid: int
    born: str
    """When the process began, in the system's own count: a pid may be given again."""
    since: str
    token: str

    @classmethod
    def here(cls) -> Owner:
        pid, since = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        return cls(socket.gethostname(), _machine(), pid, _born(pid), since, secrets.token_hex(8))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_this_process(self) -> bool:
        return (self.machine, self.pid, self.born) == (_machine(), os.getpid(), _born(os.getpid()))

    def lives(self) -> bool | None:
        """Whether it is a process of this machine that is there; None for one of another, of which nothing is known."""
        if self.machine != _machine():
            return None
        if not self.born:  # no such count on this system
            return None if _exists(self.pid) else False
        return self.born == _born(self.pid)

    def surely_gone(self) -> bool:
        """Whether it was a process of this machine that is there no more, or is this very process, which may begin
        anew."""
        return self.is_this_process() or self.lives() is False


def _machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _born(pid: int) -> str:
    """When a process began; empty for none, for one that has ended and is not yet cleared away, or where the system
    does not say."""
    try:
        # after the name, which may hold spaces; field 22 of stat is the time of the start
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def _exists(pid: int) -> bool:
    if Path("/proc/self/stat").exists():
        return bool(_born(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _now() -> float:
    """Seconds that nobody sets, also those in which the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class RunLock:
    """A file in the run directory that names its owner, who touches it every `beat` seconds as a sign of life.

    A second process is refused with the owner's name. An owner that was a process of this machine is followed when it
    is there no more, and never before, whatever the clocks say. One of another machine is followed when its last sign
    of life is older than `stale` seconds by the clock of the storage (or is in the future, after a clock was set), and
    no other comes for `watch` seconds more by this process's own count.
    """

    does, remedy = "is running this run", "choose another run_dir"
    """What the owner does, and what another may do instead."""

    def __init__(self, root: Path, beat: float = BEAT_SECONDS, stale: float = STALE_SECONDS) -> None:
        self.locked, self.file = root, self._place(root)
        self.beat, self.stale, self.watch = beat, stale, 6 * beat
        self._file = storage_of(root).lock_file(self.file)
        self.own: Owner | None = None
        self._lost: str | None = None
        self._ended = threading.Event()
        self._last = 0.0
        """When this process last knew the lock to be its own."""

    @staticmethod
    def _place(locked: Path) -> Path:
        return locked / LOCK

    def acquire(self) -> Owner | None:
        """Takes the lock; the owner from whom it was taken over, if there was one. Raises LockError."""
        own = Owner.here()
        content, before, began = to_json(asdict(own)), None, _now()
        with self._answered():
            while not self._file.create(content):
                seen = self._file.look()
                if seen is None:  # it was just released
                    continue
                found = _owner(seen.content)
                if found is None or not found.surely_gone():
                    self._refuse_living(seen, found)
                began = _now()
                if self._file.swap(seen, content):
                    before = None if found is None or found.is_this_process() else found
                    break
        self.own, self._last, self._lost = own, began, None
        self._ended.clear()
        threading.Thread(target=self._keep, args=(own,), daemon=True, name="run lock").start()
        return before

    def _refuse_living(self, seen: Seen, found: Owner | None) -> None:
        """Returns where the owner that was seen gives no sign of life. Raises LockError where it lives."""
        age = self._file.age(seen)
        lives = None if found is None else found.lives()
        if lives is None and (found is None or not 0 <= age <= self.stale):
            until = _now() + self.watch
            while self._file.look() == seen:
                if _now() > until:
                    return
                time.sleep(min(1.0, self.beat / 5))
            if found is None:  # it was being written
                return
        then = "" if lives else f"; {self.stale + self.watch:.0f} s after its last sign of life its lock is taken over"
        raise LockError(
            f"{self.locked}: {found} {self.does} (its last sign of life {max(0.0, age):.0f} s ago). "
            f"Wait for it, stop it, or {self.remedy}{then}"
        )

    def check(self) -> None:
        """Raises LockError where another process has taken the lock over, or where for `stale` seconds it could not be
        read: nothing may be written any more."""
        if self.own is None:
            return
        if self._lost is None and _now() - self._last > self.stale / 2:
            with contextlib.suppress(OSError, SelfevoError):
                self._look(self.own)
        silent = _now() - self._last
        if self._lost is None and silent > self.stale:
            self._lost = f"it could not read its lock for {silent:.0f} s"
        if self._lost is not None:
            raise LockError(f"{self.locked}: this process may not write here any more: {self._lost}; it ends here")

    def seen(self) -> tuple[Owner, float] | None:
        """Who holds the lock, and the seconds since its last sign of life; None for nobody. Writes nothing."""
        with self._answered():
            seen = self._file.look()
        found = None if seen is None else _owner(seen.content)
        if seen is None or found is None or (found.surely_gone() and not found.is_this_process()):
            return None
        return found, time.time() - seen.beaten

    def release(self) -> None:
        """Lets the next process in."""
        own, self.own = self.own, None
        self._ended.set()
        if own is None:
            return
        with contextlib.suppress(OSError, SelfevoError):  # it is followed all the same, when this process is gone
            while (seen := self._file.look()) is not None and _owner(seen.content) == own:
                if self._file.swap(seen, None):
                    return

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        """Makes of a lock file that cannot be read or made one clear line."""
        try:
            yield
        except OSError as error:
            raise LockError(
                f"{self.file}: the lock cannot be used ({error.strerror or error}); look at the disk and at the rights "
                f"to it, or {self.remedy}"
            ) from error

    def _keep(self, own: Owner) -> None:
        """A sign of life every `beat` seconds, until the lock is released, or lost."""
        while not self._ended.wait(self.beat) and self._lost is None:
            with contextlib.suppress(OSError, SelfevoError):  # what cannot be read now is read again
                self._look(own)

    def _look(self, own: Owner) -> None:
        """Gives a sign of life where the lock is this process's own. Raises OSError or SelfevoError where that is not
        known."""
        began = _now()
        seen = self._file.look()
        found = None if seen is None else _owner(seen.content)
        if found == own:
            self._file.beat()
            self._last = began
        elif self._ended.is_set():
            return
        elif seen is None:
            self._lost = f"its lock ({LOCK}) was removed"
        elif found is not None:
            self._lost = f"{found} has taken the run over"


class FileLock(RunLock):
    """The same for one file that a command writes; the lock lies beside it, under a hidden name."""

    does, remedy = "is writing this file", "name another file"

    @staticmethod
    def _place(locked: Path) -> Path:
        return locked.with_name(f".{locked.name}{LOCK}")


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """One call at a time makes a file: another would make the same. Process 0 holds the lock. Raises LockError."""
    lock = FileLock(out)
    hosts.agree(f"the lock of {out.name}", lambda: _taken(lock))
    try:
        yield
    finally:
        lock.release()


def _taken(lock: RunLock) -> None:
    lock.acquire()


def _owner(content: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
