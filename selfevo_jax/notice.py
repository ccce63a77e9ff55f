"""The notice before a machine is taken away: SIGTERM, or what Google Cloud tells of a TPU VM.

Long work ends at its next safe point, with its own exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from selfevo_jax import hosts
from selfevo_jax.errors import Preempted

POLL_SECONDS = 5.0
"""Between questions to the metadata server. A spot machine is gone 30 s after it was told."""
_DEAF = 12
"""Failed questions in a row after which a warning says that no notice can be heard; they go on."""
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
    """Asks until a sign is there; ends at once where there is nobody to ask. What could not be asked is asked again."""
    answered, failed = False, 0
    while not left.is_set() and not given():
        found, fault = _asked(ask)
        if fault is None and not answered and all(value is None for value in found.values()):
            return
        answered = answered or any(value is not None for value in found.values())
        for key, value in found.items():
            if (value or "").strip() == _SIGNS[key] and not left.is_set():
                give(f"{key} is {_SIGNS[key]}")
        failed = 0 if fault is None else failed + 1
        if failed == _DEAF:
            print(
                f"warning: {failed} questions in a row failed ({fault}); a notice that this machine is taken away "
                "may not be heard until they are answered again",
                file=sys.stderr,
                flush=True,
            )
        left.wait(poll)


def _asked(ask: Callable[[str], str | None]) -> tuple[dict[str, str | None], Exception | None]:
    """What was answered, by key, and the last failure: one key that cannot be asked hides no other."""
    found: dict[str, str | None] = {}
    fault: Exception | None = None
    for key in _SIGNS:
        try:
            found[key] = ask(key)
        except Exception as error:  # whatever it is, the next question may be answered
            fault = error
    return found, fault
