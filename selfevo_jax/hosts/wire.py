"""How the processes talk: JSON objects, each behind its length, over one TCP connection from each to process 0."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfevo_jax.errors import SelfevoError

Message = dict[str, Any]

SILENT_SECONDS = 40.0
"""Without a sign of life, after which a process counts as lost. A killed one is seen at once: its connection closes."""
BEATS = 8
"""Signs of life in that time."""
LONGEST = 1 << 26
"""Bytes of a message; more is no message of ours."""
_LENGTH = 4
"""Bytes of the length before a message, the highest first."""
_SEND_SECONDS = 10


class HostError(SelfevoError):
    """Another process is absent, lost, or has ended with an error; the message names it."""


@dataclass(frozen=True)
class Peer:
    """One of the processes."""

    id: int
    host: str
    pid: int
    versions: str = ""

    def __str__(self) -> str:
        return f"process {self.id} (host {self.host}, pid {self.pid})"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Peer:
        """Raises ValueError for what is no peer."""
        try:
            return cls(int(tree["id"]), str(tree["host"]), int(tree["pid"]), str(tree["versions"]))
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from error


def gone(peer: Peer) -> str:
    """A process whose connection has closed."""
    return f"{peer} is gone: its connection closed without a word (killed, out of memory, a crash; see its own log)"


def lost(peer: Peer, seconds: float) -> str:
    """A process that says nothing any more."""
    return f"{peer} is lost: no sign of life for {seconds:g} s (its machine or the network is down, or it hangs)"


def listed(items: Sequence[object], most: int = 8) -> str:
    """`a, b and c`; of many the first ones and how many more there are."""
    texts = [str(item) for item in items[:most]]
    if len(items) > most:
        return ", ".join(texts) + f" and {len(items) - most} more"
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


class Line:
    """One end of a connection between two that know the run's secret. Any thread may send; one thread reads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._buffer, self._lock = sock, bytearray(), threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # a peer that reads nothing must not hold up the others
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Message) -> bool:
        """Whether it could be sent; where not, nothing more goes either way: the other end may have a part of it, and
        would take what came behind it for the rest. Raises HostError for a message that is too long to be read."""
        body = json.dumps(message).encode()
        if len(body) > LONGEST:
            raise HostError(f"a message between processes has {len(body)} bytes; at most {LONGEST} are sent at once")
        try:
            with self._lock:
                self._sock.sendall(len(body).to_bytes(_LENGTH, "big") + body)
        except OSError:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            return False
        return True

    def read(self) -> list[Message] | None:
        """What has come in (waits for something); None when the other end is closed, or sent no message."""
        try:
            data = self._sock.recv(1 << 16)
        except OSError:
            return None
        if not data:
            return None
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._buffer[:_LENGTH], "big")
            if end > _LENGTH + LONGEST:
                return None
            if len(self._buffer) < end:
                break
            try:
                message = json.loads(self._buffer[_LENGTH:end])
            except (ValueError, RecursionError):
                return None
            if not isinstance(message, dict):
                return None
            messages.append(message)
            del self._buffer[:end]
        return messages

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
