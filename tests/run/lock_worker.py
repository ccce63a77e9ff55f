"""Processes that want one lock: `python lock_worker.py ROOT MODE`; each writes what it does to ROOT/log."""

import os
import random
import signal
import sys
import time
from pathlib import Path

from selfevo_jax.run import lock as lock_module
from selfevo_jax.run.lock import LockError, RunLock

BEAT, STALE = 0.05, 0.4
HOLDS = 2
"""How often each process must have held the lock."""


def note(root: Path, what: str) -> None:
    out = os.open(root / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, f"{os.getpid()} {what}\n".encode())
    os.close(out)


def contend(root: Path, foreign: bool, dies: bool) -> None:
    """Takes the lock again and again; one that dies does so while it holds the lock."""
    rng, machine, held = random.Random(os.getpid()), f"machine {os.getpid()}", 0
    if foreign:
        lock_module._machine = lambda: machine
    until = time.monotonic() + 60
    while held < HOLDS:
        assert time.monotonic() < until
        lock = RunLock(root, BEAT, STALE)
        try:
            lock.acquire()
        except LockError:
            time.sleep(rng.uniform(0, 0.02))
            continue
        note(root, "begins")
        time.sleep(rng.uniform(0, 0.01))
        lock.check()
        note(root, "ends")
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        lock.release()
        held += 1


def hold(root: Path) -> None:
    """Holds the lock as a process of another machine, and writes while it may."""
    lock_module._machine = lambda: "another machine"
    lock = RunLock(root, BEAT, STALE)
    lock.acquire()
    print("held", flush=True)
    try:
        while True:
            lock.check()
            note(root, "writes")
            time.sleep(0.005)
    except LockError as error:
        print(error, flush=True)


def main() -> None:
    root, mode = Path(sys.argv[1]), sys.argv[2]
    if mode == "hold":
        return hold(root)
    children = []
    for number in range(int(sys.argv[3])):
        if (pid := os.fork()) == 0:
            try:
                contend(root, mode == "foreign", dies=number % 5 == 0)
            except BaseException as error:
                note(root, f"fails: {error!r}")
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    main()
