"""The notice before a machine is taken away: SIGTERM, or what Google Cloud tells of a TPU VM.

Long work ends at its next safe point, with its own exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from selfevo_jax import hosts
from selfevo_jax.errors import Preempted

POLL_SECONDS = 5.0
"""Between questions to the metadata server. A spot machine is gone 30 s after it was told."""
_SIGNS = {"preempted": "TRUE", "maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE"}
"""Keys of the metadata server, and the value that says that the machine is about to be taken away."""

_reasons: list[str] = []


def give(why: str) -> None:
    """From now on this process has been told to end."""
    _reasons.append(why)


def given() -> bool:
    """Whether this process has been told to end."""
    return bool(_reasons)


def stop(where: str) -> NoReturn:
    """Raises Preempted."""
    by = _reasons[0] if _reasons else "another process of the run was"
    raise Preempted(f"told to end ({by}), and stopped {where}; the same command goes on from here")


def stop_if_given(where: str) -> None:
    """A safe point, where nothing needs to be saved."""
    if given():
        stop(where)


@contextlib.contextmanager
def heeded(ask: Callable[[str], str | None] | None = None, poll: float = POLL_SECONDS) -> Iterator[None]:
    """SIGTERM is a notice in here, and the second one ends the process as ever; so is what Google Cloud tells.

    `ask` takes a key of the metadata server; None asks it on a TPU VM, and nothing elsewhere.
    """

    def take(number: int, _: object) -> None:
        give("SIGTERM")
        signal.signal(number, before)

    asks = ask or (hosts.metadata if hosts.is_worth_asking(os.environ) else None)
    left = threading.Event()
    if asks is not None:
        threading.Thread(target=_watch, args=(asks, poll, left), daemon=True, name="notice").start()
    before = signal.signal(signal.SIGTERM, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        left.set()
        _reasons.clear()


def _watch(ask: Callable[[str], str | None], poll: float, left: threading.Event) -> None:
    """Asks until a sign is there; ends at once where there is nobody to ask."""
    if all(ask(key) is None for key in _SIGNS):
        return
    while not left.is_set() and not given():
        for key, sign in _SIGNS.items():
            if (ask(key) or "").strip() == sign and not left.is_set():
                give(f"{key} is {sign}")
        left.wait(poll)
