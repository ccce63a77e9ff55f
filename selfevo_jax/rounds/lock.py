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
from selfevo_jax.rounds.files import to_json
from selfevo_jax.storage import storage_of

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
        self._lies = storage_of(root).lock_file(self.file)
        self.own: Owner | None = None
        self._ended = threading.Event()
        self._last = 0.0

    def acquire(self) -> Owner | None:
        """Takes the lock; the owner from whom it was taken over, if there was one. Raises LockError."""
        own, before = Owner.here(), None
        while not self._lies.create(to_json(asdict(own))):
            content, age = self._lies.read(), self._lies.age()
            found = _owner(content)
            old = age is not None and abs(age) > self.stale  # a sign of life in the future is none
            if found is None or age is None:  # it is being written, or was just released
                if old:
                    self._lies.remove(content)
                time.sleep(0.05)
            elif found.surely_gone() or old:
                before = None if found.is_this_process() else found
                self._lies.remove(content)
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
        found = _owner(self._lies.read())
        if found != self.own:
            who = "another process" if found is None else str(found)
            raise LockError(
                f"{self.file.parent}: this process gave no sign of life for {time.monotonic() - self._last:.0f} s, and "
                f"{who} has taken the run over; it ends here"
            )
        self._last = time.monotonic()

    def seen(self) -> tuple[Owner, float] | None:
        """Who holds the lock, and the seconds since his last sign of life; None for nobody. Writes nothing."""
        found = _owner(self._lies.read())
        if found is None or (found.surely_gone() and not found.is_this_process()):
            return None
        beaten = self._lies.beaten()
        return None if beaten is None else (found, time.time() - beaten)

    def release(self) -> None:
        """Lets the next process in."""
        own, self.own = self.own, None
        self._ended.set()
        if own is not None and _owner(content := self._lies.read()) == own:
            self._lies.remove(content)

    def _keep(self, own: Owner) -> None:
        while not self._ended.wait(self.beat):
            begin = time.monotonic()
            with contextlib.suppress(OSError, SelfevoError):
                if _owner(self._lies.read()) != own:
                    return
                self._lies.beat()
                self._last = begin


def _owner(content: bytes | None) -> Owner | None:
    try:
        return None if content is None else Owner(**json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
