"""Trackers beside a run: each follows the run directory in a thread of its own, and whatever happens to it, the run
goes on."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import re
import shlex
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.config import override, parse_config, set_key
from selfevo_jax.config.secrets import hidden
from selfevo_jax.errors import ConfigError, SelfevoError, first_line
from selfevo_jax.progress import Reporter
from selfevo_jax.run.events import Events
from selfevo_jax.run.files import read_json
from selfevo_jax.run.lock import FileLock, LockError
from selfevo_jax.run.names import PRINTS, TRACKING
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.storage import is_remote
from selfevo_jax.trackers import About, Event, Scalars, Settings, Texts, Tracker, TrackSection

LOOK_SECONDS = 2.0
"""Between looks at the run directory."""
RETRY_SECONDS = 60.0
"""After which a tracker that has failed is begun anew."""
END_SECONDS, STOP_SECONDS = 30.0, 3.0
"""That the end of a run waits for its trackers, and one that was stopped: a machine may be about to be taken away."""
_STEPS, _BATCH = 100_000, 500
"""Steps that wait for a tracker at most (what is dropped is read when the fine-tuning has ended); events that are given
together at most."""


class Following:
    """The trackers of a run that goes on. Process 0 alone has some."""

    def __init__(self, sections: Sequence[TrackSection], reporter: Reporter) -> None:
        self._sections, self._reporter = sections, reporter
        self._followers: list[Follower] = []

    def step(self, name: str, row: Mapping[str, float]) -> None:
        """A step of the fine-tuning that makes a checkpoint, as `losses.jsonl` will hold it."""
        for follower in self._followers:
            follower.step(name, row)

    @contextlib.contextmanager
    def of(self, run: RunDir) -> Iterator[None]:
        """Follows an open run until the block ends; what could not be told until then is named in a warning."""
        given = self._sections if hosts.is_writer() else ()
        self._followers = [Follower(run, of, f"track.{n}", self._reporter) for n, of in enumerate(given)]
        limit = STOP_SECONDS
        try:
            yield
            limit = END_SECONDS
        finally:
            end = time.monotonic() + limit
            for follower in self._followers:
                follower.leave()
            for follower in self._followers:
                follower.wait(end - time.monotonic())


class Follower:
    """One tracker of a run. The run directory is its queue: it takes what is there when it has time."""

    def __init__(self, run: RunDir, section: TrackSection, key: str, reporter: Reporter) -> None:
        self._run, self._section, self._key, self._reporter = run, section, key, reporter
        self._live: collections.deque[tuple[str, dict[str, float]]] = collections.deque(maxlen=_STEPS)
        self._leave, self._warned = threading.Event(), False
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"tracker {key}")
        self._thread.start()

    def step(self, name: str, row: Mapping[str, float]) -> None:
        self._live.append((name, dict(row)))

    def leave(self) -> None:
        """No more comes; what is there is still told."""
        self._leave.set()

    def wait(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            self._warn("it is slow, and has not been told everything")

    def _follow(self) -> None:
        while not self._once():
            if self._leave.wait(RETRY_SECONDS):
                return

    def _once(self) -> bool:
        """Whether all was told before the run left."""
        try:
            tracker = self._section.open(self._key)
            with _telling(about(self._run, self._section, self._key), self._section) as (told, lock):
                try:
                    self._tell(tracker, Events(self._run, tracker.start(told)), lock)
                except (Exception, SystemExit):
                    with contextlib.suppress(Exception, SystemExit):
                        tracker.finish()
                    raise
        except (Exception, SystemExit) as error:  # of a package that is not ours, of a network, of a disk
            self._warn(_said(error))
            return False
        return True

    def _tell(self, tracker: Tracker, events: Events, lock: FileLock) -> None:
        while True:
            left = self._leave.is_set()
            told = False
            while batch := self._next(events):
                lock.check()
                give(tracker, batch)
                told = True
            if left and not told:
                break
            if not told:
                self._leave.wait(LOOK_SECONDS)
        tracker.finish()

    def _next(self, events: Events) -> list[Event]:
        """What files tell, and behind it what the fine-tuning has told."""
        # files that a step rests on are in place before it is told: these steps come behind what is read now
        steps = min(len(self._live), _BATCH)
        if found := events.read():
            return found
        rows = [self._live.popleft() for _ in range(steps)]
        return [event for name, row in rows for event in events.step(name, row)]

    def _warn(self, why: str) -> None:
        """Once: the run has other things to say."""
        if self._warned:
            return
        self._warned = True
        kind = self._section.kind
        self._reporter.warn(
            f"{self._key}: {kind}: {why}. The run goes on; what is not shown now is shown by: selfevo log "
            f"{shlex.quote(str(self._run.root))} --to {kind}"
        )


def replay(run: RunDir, section: TrackSection, key: str) -> tuple[int, int]:
    """Tells a tracker all of a run that is finished; how many events it was told now, and how many it had before.

    Raises ConfigError where no run lies or the tracker cannot work here, LockError where another process tells it, be
    it the run itself, and SelfevoError where it fails.
    """
    run.require_run()
    tracker = section.open(key)
    new = 0
    try:
        with _telling(about(run, section, key), section) as (told, lock):
            there = tracker.start(told)
            events = Events(run, there)
            while batch := events.read():
                lock.check()
                give(tracker, batch)
                new += len(batch)
            tracker.finish()
    except SelfevoError:
        raise
    except (Exception, SystemExit) as error:
        raise SelfevoError(f"{key}: {section.kind}: {_said(error)}; call it again to go on from there") from error
    return new, there


def trackers_of(
    run: RunDir, kind: str | None, dir: str | None, overrides: Sequence[str]
) -> list[tuple[str, TrackSection]]:
    """The trackers of a run's config, each with its key; with a `kind` the one of that kind, or a new one.

    Args:
      dir: in place of theirs, where it is given.
      overrides: `key=value` for each of them.

    Raises ConfigError where no run lies, for a faulty setting, and where there is no tracker at all.
    """
    config = run.read_config()
    trees: list[dict[str, Any]] = [of.model_dump(mode="json") for of in config.track if kind in (None, of.kind)]
    if not trees and kind is None:
        raise ConfigError(f"{run.config_file}: track names no tracker; name one, such as --to tensorboard")
    trees = trees or [{"kind": kind}]
    for tree in trees:
        for text in overrides:
            set_key(tree, *override(text))
        if dir is not None:
            tree["dir"] = dir
    whole = config.model_dump(mode="json") | {"track": trees}
    return [(f"track.{n}", section) for n, section in enumerate(parse_config(whole, "log").track)]


def about(run: RunDir, section: TrackSection, key: str) -> About:
    """Raises ConfigError where a tracker's files cannot lie in the run directory, since that is a bucket, and for a
    fork that was not gone on with: it has no name of its own yet."""
    name = section.name or run.root.name  # the id and folders of runs that were begun are made of it
    alike = section.name is None and run.root.parent.name and _OF_A_STUDY.fullmatch(name)
    shown = f"{run.root.parent.name}/{name}" if alike else name
    record = read_json(run.root / PRINTS).get("config")
    if record is None:
        raise ConfigError(f"{run.root}: a fork that has not begun; begin it with selfevo evolve, and call this again")
    id = hashlib.sha256(f"{name}\n{record}".encode()).hexdigest()[:16]
    if section.dir is not None and is_remote(section.dir):
        raise ConfigError(
            f"{key}.dir: {section.dir} is no folder of this machine, which {section.kind} needs; name one"
        )
    if section.dir is not None:
        # runs of one name, as those of a study with one seed, may share `dir`
        folder = Path(os.path.expanduser(section.dir)) / f"{name}-{id[:8]}"
    elif is_remote(run.root):
        raise ConfigError(f"{key}.dir: {run.root} is no folder of this machine, which {section.kind} needs; name one")
    else:
        folder = run.root / TRACKING / section.kind.replace(":", ".")
    return About(shown, id, str(run.root), folder)


_OF_A_STUDY = re.compile(r"seed--?[0-9]+")
"""What the run directory of each variant of a study is called."""
_here, _looking = set[str](), threading.Lock()
"""Locks of trackers that threads of this process have."""


class TrackerLock(FileLock):
    """One process at a time tells a tracker of a run: two would each tell what the other has not told yet."""

    does, remedy = "is telling this tracker of the run", "give it another folder (dir)"


@contextlib.contextmanager
def _telling(told: About, section: TrackSection) -> Iterator[tuple[About, TrackerLock]]:
    """Raises LockError."""
    lock = TrackerLock(told.dir / section.kind.replace(":", "."))
    file = os.path.realpath(lock.file)
    with _looking:
        if file in _here:  # a process may take over what it has locked itself
            raise LockError(f"{lock.locked}: this very process {lock.does} already; wait for it, or {lock.remedy}")
        _here.add(file)
    try:
        lock.acquire()
        yield told, lock
    finally:
        lock.release()
        _here.discard(file)


def give(tracker: Tracker, events: Sequence[Event]) -> None:
    """Events in their order, those of one kind together."""
    for first in range(0, len(events), _BATCH):
        for kind, group in groupby(events[first : first + _BATCH], type):
            found: list[Any] = list(group)
            if kind is Scalars:
                tracker.scalars(found)
            elif kind is Texts:
                tracker.texts(found)
            elif kind is Settings:
                tracker.settings(found)


def _said(error: Exception | SystemExit) -> str:
    """What a tracker says of its failure: its server's address may hold a password from the environment."""
    said = hidden(first_line(error))
    return said if isinstance(error, SelfevoError) else f"{type(error).__name__}: {said}"
