"""Real processes on this machine that make one run together."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quick_compiles import flags
from quick_processes import start

import selfevo_jax

SECRET = "a secret of these tests, and no other's"
WORKER = Path(__file__).with_name("host_worker.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str
    after: float
    """Seconds from the deed of the test to its end."""


class Process:
    def __init__(self, folder: Path, number: int, command: Sequence[str], **how: Any) -> None:
        # files: a full pipe of one would hold up the other
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.popen = start(command, out, err, **how)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Until the process has printed a text."""
        end = time.monotonic() + seconds
        while text not in self.out:
            assert self.popen.poll() is None, f"ended before it said {text!r}: {self.err[-3000:]}"
            assert time.monotonic() < end, (
                f"did not say {text!r} within {seconds} s: {self.out[-500:]}{self.err[-3000:]}"
            )
            time.sleep(0.05)


def together(
    folder: Path,
    commands: Sequence[Sequence[str]],
    deed: Callable[[list[Process]], None] = lambda _: None,
    *,
    devices: int = 1,
    limit: float = 200,
    environment: dict[str, str] | None = None,
    working_directory: Path | None = None,
) -> list[Ended]:
    """Runs one Python command a process, does the deed, and waits for all; none is left when this returns or raises."""
    places = [
        str(Path(selfevo_jax.__file__).parents[1]),
        str(WORKER.parents[1]),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "SELFEVO_SECRET": SECRET}
    variables |= {"XLA_FLAGS": flags(devices), **(environment or {})}
    folder.mkdir(parents=True, exist_ok=True)
    processes: list[Process] = []
    end = time.monotonic() + limit
    try:
        for number, command in enumerate(commands):
            processes.append(Process(folder, number, command, env=variables, cwd=working_directory))
        deed(processes)
        began, ended = time.monotonic(), {}
        while len(ended) < len(processes):
            for number, process in enumerate(processes):
                code = process.popen.poll()
                if code is not None and number not in ended:
                    ended[number] = Ended(code, process.out, process.err, time.monotonic() - began)
            told = "\n".join(p.out[-500:] + p.err[-2000:] for p in processes)
            assert time.monotonic() < end, f"still running after {limit} s:\n{told}"
            time.sleep(0.05)
        return [ended[number] for number in range(len(processes))]
    finally:
        for process in processes:
            process.popen.kill()
            process.popen.wait()


def workers(*words: str, n: int = 2) -> list[list[str]]:
    """The commands of n processes of host_worker.py."""
    port = free_port()
    return [[str(WORKER), str(port), str(n), str(i), *words] for i in range(n)]


def name(process: int, pid: int) -> str:
    """How messages name a process of this machine."""
    return f"process {process} (host {socket.gethostname()}, pid {pid})"
