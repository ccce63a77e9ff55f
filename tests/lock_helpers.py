"""What a lock has to do wherever it lies."""

from pathlib import Path

import pytest

from selfevo_jax.run.lock import LockError, Owner, RunLock

OTHER = Owner("far", "far boot pid:[1]", 4711, "1", "2026-01-01 00:00:00 UTC", "token")
"""An owner on another host."""


def assert_followed_by_its_age_alone(root: Path) -> None:
    """Of a lock of OTHER's whose last sign of life was 40 s ago."""
    with pytest.raises(
        LockError, match=r"process 4711 on far, since 2026-01-01 .* \(its last sign of life 4\d s ago\)"
    ):
        RunLock(root, beat=0.1, stale=60).acquire()
    lock = RunLock(root, beat=0.1, stale=30)
    assert lock.acquire() == OTHER
    lock.release()
