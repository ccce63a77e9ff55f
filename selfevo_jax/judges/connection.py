"""What a client's error says of a connection that could not be made."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

from selfevo_jax.errors import first_line

_IN_WORDS = (ssl.SSLError, socket.gaierror)
"""Their numbers are no `errno` of the system."""


def never_connected(error: BaseException) -> bool:
    """Whether there was no connection. By name: the client's transport is another package in each of its versions."""
    return any(type(one).__name__ in ("ConnectError", "ConnectTimeout") for one in _chain(error))


def cause_of(error: BaseException) -> str:
    """Why there is no connection, as the system says it, or else the transport."""
    numbered = [one for one in _chain(error) if isinstance(one, OSError) and one.errno is not None]
    if not numbered:
        return first_line(error.__cause__ or error)
    last = numbered[-1]
    return str(last.strerror or last) if isinstance(last, _IN_WORDS) else os.strerror(last.errno or 0)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised for, and so on; of several attempts the first."""
    found: BaseException | None = error
    while found is not None:
        yield found
        first = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else None
        found = first or found.__cause__ or found.__context__
