"""Work that may never end, in processes of its own: each request has a time limit, and the process that passes it is
ended."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any

from selfevo_jax.errors import SelfevoError

MOST_LATE = 20
"""Of one `map`: after so many requests without an answer the others are not tried, where half of those tried had none:
it is the work that never ends, then, and not some of the texts."""
_START_SECONDS = 120.0
"""For a process to load what it needs; it says so with a line."""
_READ = 1 << 16


class Late(Enum):
    """In place of an answer."""

    LATE = "no answer within the limit"
    """Or the process ended over it."""


class _Child:
    """One process, started at its first request and again after it was ended."""

    def __init__(self, script: Path) -> None:
        self._script = script
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any], seconds: float) -> Any:
        """The answer; `Late.LATE` where none comes in time. Raises SelfevoError where the process cannot start."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({**request, "seconds": seconds}).encode() + b"\n")
            process.stdin.flush()
            answer = _line(process.stdout.fileno(), seconds)
        except OSError:
            answer = None
        if answer is None:
            self.end()
            return Late.LATE
        return json.loads(answer)

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: what lies beside the script is no module; a session of its own: Ctrl-C is for the parent to answer
        command = [sys.executable, "-P", str(self._script)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._process.stdout is not None
        if _line(self._process.stdout.fileno(), _START_SECONDS) is None:
            self.end()
            raise SelfevoError(f"{' '.join(command)} does not start; run it by hand to see why")
        return self._process

    def end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()


def _line(file: int, seconds: float) -> bytes | None:
    """The next line; None where it does not come in time, or the other end is gone."""
    until, found = time.monotonic() + seconds, b""
    while not found.endswith(b"\n"):
        ready, _, _ = select.select([file], [], [], max(0.0, until - time.monotonic()))
        part = os.read(file, _READ) if ready else b""
        if not part:
            return None
        found += part
    return found


class Workers:
    """Several processes of one script."""

    def __init__(self, script: Path, count: int) -> None:
        self._children = [_Child(script) for _ in range(count)]
        self._turn = threading.Lock()

    def map(self, requests: Sequence[dict[str, Any]], seconds: float) -> list[Any]:
        """The answers in the order of the requests, `Late` where none came in `seconds`."""
        found: list[Any] = [Late.LATE] * len(requests)
        left, tried, late = iter(range(len(requests))), 0, 0
        take = threading.Lock()

        def work(child: _Child) -> None:
            nonlocal tried, late
            while True:
                with take:
                    at = next(left, None)
                    if at is None or (late >= MOST_LATE and 2 * late >= tried):
                        return
                found[at] = child.ask(requests[at], seconds)
                with take:
                    tried += 1
                    late += found[at] is Late.LATE

        with self._turn:
            children = self._children[: max(1, min(len(self._children), len(requests) // 8))]
            if len(children) == 1:
                work(children[0])
            else:
                with ThreadPoolExecutor(len(children)) as pool:
                    list(pool.map(work, children))
        return found


@functools.cache
def workers(script: Path, count: int = 1) -> Workers:
    """The processes of a script, which live as long as this one."""
    return Workers(script, count)
