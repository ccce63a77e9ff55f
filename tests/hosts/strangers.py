"""What programs say that do not know the run's secret."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Callable

from selfevo_jax.hosts.door import ANSWER, GREETING, MARK

MIB = 1 << 20


def messages(count: int) -> list[bytes]:
    """Of seven kinds in turn; the last is 60 MiB of nothing."""
    draw = random.Random(7)
    hello = json.dumps({"hello": {"id": 1, "host": "h", "pid": 1, "versions": "jax 0.0.1"}, "processes": 2}).encode()
    kinds: list[Callable[[], bytes]] = [
        lambda: draw.randbytes(draw.randrange(1, 5000)),
        lambda: b"[" * 1100 + b"\n",
        lambda: b'{"a":' * 200_000 + b"\n",
        lambda: MARK + draw.randbytes(draw.randrange(0, ANSWER - len(MARK))),  # half a greeting
        lambda: MARK + draw.randbytes(ANSWER - len(MARK)),  # a whole one with a wrong proof
        lambda: (len(hello)).to_bytes(4, "big") + hello if draw.random() < 0.5 else hello + b"\n",
        lambda: b"selfevo1" + draw.randbytes(ANSWER - len(MARK)),  # another version
    ]
    return [kinds[i % len(kinds)]() for i in range(count - 1)] + [bytes(60 * MIB)]


def send(port: int, message: bytes, seconds: float = 30) -> socket.socket:
    """Says it, whatever the other end does; the connection stays open."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    with contextlib.suppress(OSError):
        sock.sendall(message)
    return sock


def is_closed(sock: socket.socket, seconds: float = 15) -> bool:
    """Whether the other end closes, with no more than its greeting and a refusal."""
    until, heard = time.monotonic() + seconds, 0
    sock.settimeout(0.5)
    while time.monotonic() < until:
        try:
            data = sock.recv(1 << 16)
        except TimeoutError:
            continue
        except OSError:
            return True
        heard += len(data)
        if not data:
            return heard <= GREETING + 32
    return False
