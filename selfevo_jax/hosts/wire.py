"""How the processes talk: one JSON object a line, over one TCP connection from each process to process 0."""

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
    """One end of a connection. Any thread may send; one thread reads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._buffer, self._lock = sock, b"", threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # a peer that reads nothing must not hold up the others
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Message) -> bool:
        """Whether it could be sent."""
        try:
            with self._lock:
                self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def read(self) -> list[Message] | None:
        """What has come in (waits for something); None when the other end is closed, or talks something else."""
        try:
            data = self._sock.recv(1 << 16)
        except OSError:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if not data or len(self._buffer) > LONGEST:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        return messages if all(isinstance(message, dict) for message in messages) else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
