"""Real Python processes that begin at once: forked from one that has imported JAX and the package, and nothing more.

They have their own pid, signals, environment, folder and files, run the words of the command as `__main__`, and end as
Python ends. Only what comes before the imports cannot be seen in them: tests of that use `subprocess`.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO


@functools.cache
def _server(settings: frozenset[tuple[str, str]]) -> tuple[tempfile.TemporaryDirectory, subprocess.Popen]:
    """A server with these variables, which JAX reads when it is imported, and the folder of its socket."""
    folder = tempfile.TemporaryDirectory(prefix="selfevo-quick-")
    words = [sys.executable, Path(__file__).with_name("quick_server.py"), Path(folder.name) / "socket"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")} | dict(settings)
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env)
    atexit.register(server.communicate)  # which closes its standard input, and waits
    while not (Path(folder.name) / "socket").exists():
        assert server.poll() is None, "the server has ended"
        time.sleep(0.02)
    return folder, server


class Quick:
    """A process of `python WORDS`, with as much of a Popen as tests use."""

    def __init__(self, words: Sequence[object], stdout: IO | None, stderr: IO | None, env: dict[str, str], cwd: str):
        folder, _ = _server(frozenset((name, value) for name, value in env.items() if name.startswith("JAX_")))
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(f"{folder.name}/socket")
        asked = json.dumps({"words": list(map(str, words)), "env": env, "cwd": cwd})
        files = [number if file is None else file.fileno() for number, file in ((1, stdout), (2, stderr))]
        socket.send_fds(self._connection, [f"{asked}\n".encode()], files)
        self._told = self._connection.makefile("rb")
        self.pid = int(self._told.readline())

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self.returncode = int(self._told.readline())
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    words: Sequence[object],
    stdout: IO | None = None,
    stderr: IO | None = None,
    env: dict[str, str] | None = None,
    cwd: object = None,
) -> Quick | subprocess.Popen[str]:
    """Starts `python WORDS`; what is left out, it has from this process.

    It is a process like any other where one with libraries in it cannot be forked.
    """
    env, cwd = dict(os.environ if env is None else env), str(cwd or Path.cwd())
    if sys.platform == "linux":
        return Quick(words, stdout, stderr, env, cwd)
    return subprocess.Popen([sys.executable, *map(str, words)], stdout=stdout, stderr=stderr, env=env, cwd=cwd)


@contextlib.contextmanager
def heard(words: Sequence[object]) -> Iterator[tuple[Quick | subprocess.Popen[str], IO[str]]]:
    """A process of `python WORDS` and what it prints; killed at the end."""
    says, said = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))
    with says:
        with said:
            process = start(words, said)
        try:
            yield process, says
        finally:
            process.kill()
            process.wait()


def run(words: Sequence[object], timeout: float) -> subprocess.CompletedProcess[str]:
    """Runs `python WORDS` to its end; it is killed after `timeout` seconds."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(words, out, err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(words), code, out.read(), err.read())
