"""The notice before a machine is taken away: SIGTERM. Long work ends at its next safe point, with its own exit code."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

from selfevo_jax.errors import Preempted

_given = threading.Event()


def given() -> bool:
    """Whether this process has been told to end."""
    return _given.is_set()


def stop(where: str) -> NoReturn:
    """Raises Preempted."""
    raise Preempted(f"told to end (SIGTERM), and stopped {where}; the same command goes on from here")


def stop_if_given(where: str) -> None:
    """A safe point, where nothing needs to be saved."""
    if given():
        stop(where)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """SIGTERM is a notice in here, and the second one ends the process as ever."""

    def take(number: int, _: object) -> None:
        _given.set()
        signal.signal(number, before)

    before = signal.signal(signal.SIGTERM, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _given.clear()
