"""What a lock has to do wherever it lies."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from quick_processes import Quick, heard

from selfevo_jax.run.lock import LockError, Owner, RunLock, _born

OTHER = Owner("far", "far boot pid:[1]", 4711, "1", "2026-01-01 00:00:00 UTC", "token")
"""An owner on another host."""


def owned_by_a_living_process(lock: Path) -> Owner:
    """Writes a lock of the process that began this one."""
    owner = replace(Owner.here(), pid=os.getppid(), born=_born(os.getppid()))
    lock.write_text(json.dumps(asdict(owner)))
    return owner


HOLD = """
import sys, time
from selfevo_jax.run.lock import RunLock
from selfevo_jax.storage import place
RunLock(place(sys.argv[1]), *map(float, sys.argv[2:])).acquire()
print("held", flush=True)
time.sleep(120)
"""


@contextlib.contextmanager
def holder_of(root: Path, *beat: float) -> Iterator[Quick | subprocess.Popen[str]]:
    """A process that holds the lock of a run."""
    with heard(["-c", HOLD, root, *beat]) as (holder, says):
        assert says.readline() == "held\n"
        yield holder


def assert_followed_by_its_age_alone(root: Path) -> None:
    """Of a lock of OTHER's whose last sign of life was 40 s ago."""
    with pytest.raises(
        LockError, match=r"process 4711 on far, since 2026-01-01 .* \(its last sign of life 4\d s ago\)"
    ):
        RunLock(root, beat=0.1, stale=60).acquire()
    lock = RunLock(root, beat=0.1, stale=30)
    assert lock.acquire() == OTHER
    lock.release()
