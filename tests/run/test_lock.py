"""One writer: the second process is refused with the owner's name, and an owner that is gone is followed."""

import json
import os
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import quick_processes
from lock_helpers import OTHER, assert_followed_by_its_age_alone, holder_of
from quick_processes import heard

from selfevo_jax.run import lock as lock_module
from selfevo_jax.run.lock import LOCK, LockError, Owner, RunLock
from selfevo_jax.storage.disk import DiskLockFile

WORKER = Path(__file__).with_name("lock_worker.py")


def write(root: Path, owner: Owner, age: float) -> None:
    file = root / LOCK
    file.write_text(json.dumps(asdict(owner)))
    os.utime(file, (time.time() - age,) * 2)


def test_the_second_process_is_refused_with_the_owners_name_and_follows_at_once_when_it_is_gone(tmp_path: Path) -> None:
    with holder_of(tmp_path, 0.1) as holder:
        lock = RunLock(tmp_path)
        with pytest.raises(LockError, match=f"process {holder.pid} on .* is running this run .* or choose another"):
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
    torn = RunLock(tmp_path, beat=0.05)
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


@pytest.mark.parametrize("mode", ["here", "foreign"])
def test_of_20_processes_that_start_at_once_one_writes_at_every_instant(tmp_path: Path, mode: str) -> None:
    """Every fifth is killed while it holds the lock; `foreign` ones know each other by their signs of life alone."""
    assert quick_processes.run([WORKER, tmp_path, mode, 20], 120).returncode == 0
    log = [line.split(maxsplit=1) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(log) == 2 * (4 + 16 * 2)
    for (first, begins), (second, ends) in zip(log[::2], log[1::2], strict=True):
        assert (first, begins, ends) == (second, "begins", "ends")
    assert {file.name for file in tmp_path.iterdir()} <= {"log", LOCK}  # the lock of one that was killed last


def test_a_living_owner_of_this_machine_is_never_followed_whatever_the_clock_says(tmp_path: Path) -> None:
    with heard([WORKER, tmp_path, "hold"]) as (holder, says):
        assert says.readline() == "held\n"
        owner = json.loads((tmp_path / LOCK).read_text())
        here = Owner.here()
        living = replace(here, pid=os.getppid(), born=lock_module._born(os.getppid()))
        for root in (tmp_path / "1", tmp_path / "2"):
            root.mkdir()
            for age in (1e6, -1e6, 0):  # a clock that was set forward, or back
                write(root, living, age)
                with pytest.raises(LockError, match=f"process {living.pid} on"):
                    RunLock(root, beat=0.01, stale=0.1).acquire()
        for age in (1e6, -1e6):  # of another machine: its next sign of life comes
            os.utime(tmp_path / LOCK, (time.time() - age,) * 2)
            with pytest.raises(LockError, match=f"process {holder.pid} on"):
                RunLock(tmp_path, beat=0.1, stale=5).acquire()
        assert json.loads((tmp_path / LOCK).read_text()) == owner


def test_a_process_that_was_stopped_and_followed_writes_no_more(tmp_path: Path) -> None:
    with heard([WORKER, tmp_path, "hold"]) as (holder, says):
        assert says.readline() == "held\n"
        deadline = time.monotonic() + 10
        while not (tmp_path / "log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        holder.send_signal(signal.SIGSTOP)
        lock = RunLock(tmp_path, beat=0.1, stale=0.4)
        time.sleep(0.6)
        before = lock.acquire()
        assert before is not None
        assert before.pid == holder.pid
        written = (tmp_path / "log").read_text().count("writes")
        holder.send_signal(signal.SIGCONT)
        assert "has taken the run over; it ends here" in says.readline()
        assert holder.wait(20) == 0
        assert (tmp_path / "log").read_text().count("writes") <= written + 1  # the one it had begun
        lock.check()
        lock.release()


def test_a_lock_file_that_cannot_be_read_for_a_while_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = RunLock(tmp_path, beat=0.02, stale=1.2)
    lock.acquire()
    look = DiskLockFile.look

    def fails(self: DiskLockFile) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(DiskLockFile, "look", fails)
        time.sleep(0.8)  # longer than half of `stale`: asked before every write, and still nobody's but this process's
        lock.check()
        time.sleep(0.6)
        with pytest.raises(LockError, match=r"could not read its lock for \d s; it ends here"):
            lock.check()
    assert DiskLockFile.look is look
    again = RunLock(tmp_path, beat=0.02, stale=1.2)
    again.acquire()
    sign = again._file.look()
    with monkeypatch.context() as patched:
        patched.setattr(DiskLockFile, "look", fails)
        time.sleep(0.2)
    deadline = time.monotonic() + 10
    while again._file.look() == sign:  # its signs of life go on
        assert time.monotonic() < deadline
    again.check()
    again.release()


def test_a_lost_lock_stops_its_owner_at_the_next_write(tmp_path: Path) -> None:
    for lose, said in (
        (lambda file: file.unlink(), r"its lock \(\.lock\) was removed"),
        (lambda file: file.write_text(json.dumps(asdict(OTHER))), "process 4711 on far, .* has taken the run over"),
    ):
        lock = RunLock(tmp_path, beat=0.02)
        lock.acquire()
        lose(tmp_path / LOCK)
        time.sleep(0.3)
        with pytest.raises(LockError, match=said):
            lock.check()
        lock.release()
        (tmp_path / LOCK).unlink(missing_ok=True)


def test_an_owner_that_has_ended_and_is_not_cleared_away_is_followed(tmp_path: Path) -> None:
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
    write(tmp_path, replace(Owner.here(), pid=child, born=lock_module._born(child)), 0)
    lock = RunLock(tmp_path)
    with pytest.raises(LockError):
        lock.acquire()
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while lock_module._born(child):
        assert time.monotonic() < deadline
    assert lock.acquire() is not None
    lock.release()
    os.waitpid(child, 0)
