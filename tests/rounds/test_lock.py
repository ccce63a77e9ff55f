"""One writer: the second process is refused with the owner's name, and an owner that is gone is followed."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from lock_helpers import OTHER, assert_followed_by_its_age_alone

from selfevo_jax.rounds.lock import LOCK, LockError, Owner, RunLock

HOLD = """
import sys, time
from pathlib import Path
from selfevo_jax.rounds.lock import RunLock
RunLock(Path(sys.argv[1]), beat=0.1).acquire()
print("held", flush=True)
time.sleep(120)
"""


def write(root: Path, owner: Owner, age: float) -> None:
    file = root / LOCK
    file.write_text(json.dumps(asdict(owner)))
    os.utime(file, (time.time() - age,) * 2)


def test_the_second_process_is_refused_with_the_owners_name_and_follows_at_once_when_it_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = RunLock(tmp_path)
        with pytest.raises(LockError, match=f"process {holder.pid} on .* is at this run .* or choose another"):
            lock.acquire()
        holder.kill()
        holder.wait()
        begin = time.monotonic()
        before = lock.acquire()
        assert time.monotonic() - begin < 5
        assert before is not None
        assert before.pid == holder.pid
        lock.release()
        assert list(tmp_path.iterdir()) == []
    finally:
        holder.kill()
        holder.wait()


def test_another_hosts_owner_is_followed_after_its_last_sign_of_life_has_grown_old(tmp_path: Path) -> None:
    write(tmp_path, OTHER, 40)
    assert_followed_by_its_age_alone(tmp_path)


def test_a_pid_that_was_given_again_is_not_the_owner(tmp_path: Path) -> None:
    mine = Owner.here()
    write(tmp_path, replace(mine, pid=os.getppid(), born="1"), 0)
    lock = RunLock(tmp_path)
    assert lock.acquire() is not None
    lock.release()


def test_an_owner_that_slept_too_long_writes_no_more(tmp_path: Path) -> None:
    slow = RunLock(tmp_path, beat=1000, stale=0.1)
    slow.acquire()
    slow.check()
    time.sleep(0.2)
    slow.check()  # nobody has taken it
    write(tmp_path, OTHER, 0)
    time.sleep(0.2)
    with pytest.raises(LockError, match="process 4711 on far, .* has taken the run over; it ends here"):
        slow.check()
    slow.release()
    assert (tmp_path / LOCK).exists()  # it is another's now


def test_signs_of_life_are_given_while_it_is_held_and_a_torn_lock_does_not_hold_for_ever(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, beat=0.05)
    lock.acquire()
    file = tmp_path / LOCK
    first = file.stat().st_mtime_ns
    deadline = time.monotonic() + 10
    while file.stat().st_mtime_ns == first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lock.release()
    file.write_text("{")
    os.utime(file, (0, 0))
    torn = RunLock(tmp_path)
    assert torn.acquire() is None
    torn.release()


def test_a_run_may_begin_anew_in_its_own_process(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    assert second.acquire() is None
    first.release()
    assert (tmp_path / LOCK).exists()
    second.release()
    assert not (tmp_path / LOCK).exists()
