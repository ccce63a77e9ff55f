"""One writer at a time: the lock of a run directory, with its owner's name and signs of life."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from selfevo_jax.errors import SelfevoError
from selfevo_jax.rounds.files import put, to_json, told

LOCK = ".lock"
BEAT_SECONDS, STALE_SECONDS = 5.0, 60.0
"""Between signs of life; how old the last one is when the owner counts as gone."""


class LockError(SelfevoError):
    """Another process writes in this run directory."""


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

    def surely_gone(self) -> bool:
        """Whether it was a process of this machine that is there no more, or is this very process, which may begin
        anew."""
        if self.machine != _machine():
            return False
        if self.is_this_process():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return self.born != _born(self.pid)


def _machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _born(pid: int) -> str:
    try:
        # after the name, which may hold spaces; field 22 of stat is the time of the start
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


class RunLock:
    """A file in the run directory that names its owner and is touched as long as he lives.

    A second process is refused with the owner's name. The lock of an owner that is gone is taken over: at once where
    he was a process of this machine, else `stale` seconds after his last sign of life.
    """

    def __init__(self, root: Path, beat: float = BEAT_SECONDS, stale: float = STALE_SECONDS) -> None:
        self.file, self.beat, self.stale = root / LOCK, beat, stale
        self.own: Owner | None = None
        self._ended = threading.Event()
        self._last = 0.0

    def acquire(self) -> Owner | None:
        """Takes the lock; the owner from whom it was taken over, if there was one. Raises LockError."""
        own, before = Owner.here(), None
        while not self._create(own):
            found, age = self._read(), self._age()
            if found is None or age is None:  # it is being written, or was just released
                if age is not None and age > self.stale:
                    self._set_aside(found)
                time.sleep(0.05)
            elif found.surely_gone() or age > self.stale:
                before = None if found.is_this_process() else found
                self._set_aside(found)
            else:
                raise LockError(
                    f"{self.file.parent}: {found} is at this run (its last sign of life {max(0.0, age):.0f} s ago). "
                    f"Wait for it, stop it, or choose another run_dir; {self.stale:.0f} s after its last sign of life "
                    "its lock is taken over"
                )
        self.own, self._last = own, time.monotonic()
        self._ended.clear()
        threading.Thread(target=self._keep, args=(own,), daemon=True, name="run lock").start()
        return before

    def check(self) -> None:
        """Raises LockError where another process has taken the lock over: nothing may be written any more."""
        if self.own is None or time.monotonic() - self._last < self.stale / 2:
            return
        found = self._read()
        if found != self.own:
            who = "another process" if found is None else str(found)
            raise LockError(
                f"{self.file.parent}: this process gave no sign of life for {time.monotonic() - self._last:.0f} s, and "
                f"{who} has taken the run over; it ends here"
            )
        self._last = time.monotonic()

    def seen(self) -> tuple[Owner, float] | None:
        """Who holds the lock, and the seconds since his last sign of life; None for nobody. Writes nothing."""
        found = self._read()
        if found is None or (found.surely_gone() and not found.is_this_process()):
            return None
        try:
            return found, time.time() - self.file.stat().st_mtime
        except FileNotFoundError:
            return None

    def release(self) -> None:
        """Lets the next process in."""
        own, self.own = self.own, None
        self._ended.set()
        if own is not None and self._read() == own:
            self.file.unlink(missing_ok=True)

    def _create(self, own: Owner) -> bool:
        with told(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self.file.open("xb") as out:
                    put(out, to_json(asdict(own)))
            except FileExistsError:
                return False
        return True

    def _read(self) -> Owner | None:
        try:
            return Owner(**json.loads(self.file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _age(self) -> float | None:
        """Seconds since the owner's last sign of life, by the clock of the file system: hosts' clocks differ."""
        probe = self.file.with_name(f"{LOCK}.now.{secrets.token_hex(4)}")
        try:
            probe.touch()
            return probe.stat().st_mtime - self.file.stat().st_mtime
        except FileNotFoundError:
            return None
        finally:
            probe.unlink(missing_ok=True)

    def _set_aside(self, found: Owner | None) -> None:
        """Removes the lock of an owner that is gone, unless it has become another's in the meantime."""
        aside = self.file.with_name(f"{LOCK}.gone.{secrets.token_hex(4)}")
        try:
            self.file.rename(aside)
        except FileNotFoundError:
            return
        try:
            taken = Owner(**json.loads(aside.read_text()))
        except (ValueError, TypeError):
            taken = None
        if taken is not None and taken != found and not self.file.exists():
            aside.rename(self.file)
        aside.unlink(missing_ok=True)

    def _keep(self, own: Owner) -> None:
        while not self._ended.wait(self.beat):
            if self._read() != own:
                return
            with contextlib.suppress(OSError):
                os.utime(self.file)
                self._last = time.monotonic()
