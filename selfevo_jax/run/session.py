"""What a process at a run says of itself while it works and when it ends, for `selfevo status` in another process.

It is no record of the run: nothing is made from it, it is written without waiting for the disk, and a run goes on
where it cannot be written.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.errors import Preempted, SelfevoError, first_line
from selfevo_jax.progress import Reporter, Task
from selfevo_jax.run.files import to_json
from selfevo_jax.run.lock import Owner
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.storage import is_remote, storage_of
from selfevo_jax.untrusted import read_bounded

SESSION = ".session.json"
EVERY_SECONDS, EVERY_SECONDS_REMOTE = 5.0, 30.0
"""Between two writes, at least; the beginning and the end of a task are written at once on a disk."""
_WINDOW = 24
"""Writes that a rate is taken over."""
_MOST = 1 << 16

COMPLETE, INTERRUPTED, TOLD, FAILED = "complete", "interrupted", "told to end", "failed"


@dataclass(frozen=True)
class Going:
    """A task as it was when the process last spoke."""

    title: str
    done: int
    total: int
    unit: str
    note: str
    rate: float | None
    """`unit` a second, lately; None: not known yet."""

    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None


@dataclass(frozen=True)
class Session:
    """A process at a run."""

    owner: str
    process: Mapping[str, Any]
    """Its machine, pid and start."""
    at: float
    """Unix seconds: when it last spoke."""
    task: Going | None
    end: str | None
    """How it ended; None while it works, and for a process that ended without a word."""
    said: str = ""
    """Why."""

    def is_of(self, owner: Owner) -> bool:
        return dict(self.process) == _process(owner)


def _process(owner: Owner) -> dict[str, Any]:
    return {"machine": owner.machine, "pid": owner.pid, "born": owner.born}


def last_session(run: RunDir) -> Session | None:
    """The last process that worked at a run; None where none has said so. What cannot be read is nothing said."""
    file = run.root / SESSION
    try:
        if not file.exists():
            return None
        tree = json.loads(read_bounded(file, _MOST, SelfevoError, "remove it").decode("utf-8"))
        task = None if tree["task"] is None else Going(**tree["task"])
        found = Session(**{**tree, "task": task})
        sound = isinstance(found.at, int | float) and isinstance(found.owner, str) and isinstance(found.process, dict)
        if task is not None:
            sound = sound and all(isinstance(n, int) for n in (task.done, task.total))
            sound = sound and all(isinstance(text, str) for text in (task.title, task.unit, task.note))
            sound = sound and isinstance(task.rate, int | float | None)
        sound = sound and isinstance(found.end, str | None) and isinstance(found.said, str)
    except (SelfevoError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if sound else None


@contextlib.contextmanager
def told(run: RunDir, reporter: Reporter) -> Iterator[None]:
    """Says on disk what a process does at a run that it owns, and how it ended. Process 0 says it."""
    if not hosts.is_writer() or (owner := run.owner) is None:
        yield
        return
    teller, before = _Teller(run, owner), reporter.on_task

    def hear(task: Task) -> None:
        before(task)
        teller.hear(task)

    reporter.on_task = hear
    try:
        teller.say()
        yield
    except Preempted as notice:
        teller.say(TOLD, str(notice))
        raise
    except KeyboardInterrupt:
        teller.say(INTERRUPTED, "Ctrl-C")
        raise
    except BaseException as error:
        shown = first_line(error) if isinstance(error, SelfevoError) else f"{type(error).__name__}: {first_line(error)}"
        teller.say(FAILED, shown)
        raise
    else:
        teller.say(COMPLETE)
    finally:
        reporter.on_task = before


class _Teller:
    def __init__(self, run: RunDir, owner: Owner, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._owner, self._clock = run, owner, clock
        self._task: Task | None = None
        self._seen: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        remote = is_remote(run.root)
        self._every, self._at_once, self._last = EVERY_SECONDS_REMOTE if remote else EVERY_SECONDS, not remote, 0.0

    def hear(self, task: Task) -> None:
        now, fresh = self._clock(), self._task is None or task.title != self._task.title or task.done < self._task.done
        if fresh:
            self._seen.clear()
        self._task = task
        edge = self._at_once and (fresh or task.done == task.total)
        if edge or now - self._last >= self._every:
            # what comes before the first unit is compiling, or reading, and no part of the rate
            if task.done and (not self._seen or task.done > self._seen[-1][1]):
                self._seen.append((now, task.done))
            self.say()

    def say(self, end: str | None = None, said: str = "") -> None:
        self._last = self._clock()
        going = None if self._task is None else asdict(Going(**asdict(self._task), rate=self._rate()))
        tree = {"owner": str(self._owner), "process": _process(self._owner), "at": time.time(), "task": going}
        with contextlib.suppress(OSError, SelfevoError):
            self._run.check()  # what another process owns by now is not this one's to write
            file = self._run.root / SESSION
            storage_of(file).note(file, to_json({**tree, "end": end, "said": said}))

    def _rate(self) -> float | None:
        if len(self._seen) < 2:
            return None
        (begun, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - begun) if now > begun else None
