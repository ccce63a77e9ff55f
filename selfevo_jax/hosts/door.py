"""Where connections come in: only one that proves the run's secret is let through. Nothing that others send is parsed.

Three messages of fixed size. Process 0 begins with `GREETING` (a mark and a nonce); the other end answers with `ANSWER`
(the mark, a nonce of its own, and its proof); process 0 ends with a proof of its own, or with `REFUSED`.
"""

from __future__ import annotations

import hmac
import secrets
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

from selfevo_jax.hosts.secret import PROOF_BYTES, Secret
from selfevo_jax.hosts.wire import HostError

MARK = b"selfevo2"
"""Also the version of what follows."""
_NONCE = 32
GREETING = len(MARK) + _NONCE
ANSWER = len(MARK) + _NONCE + PROOF_BYTES
"""Bytes: the most that is read of a connection without a proof."""
REFUSED = bytes(PROOF_BYTES)
SECONDS = 5.0
"""In which a connection must have proven the secret."""
MOST = 256
"""Connections without a proof at a time; the oldest goes when another comes."""
_PATIENCE = 2 * SECONDS
"""How long the other end waits for process 0."""
_MEMBER, _FIRST = "a process of the run", "process 0"


def introduce(sock: socket.socket, secret: Secret, address: str) -> None:
    """The other end: proves the secret to process 0, and has it proven.

    Raises HostError where the secrets differ, and OSError where there was no answer or another one: try again.
    """
    until = time.monotonic() + _PATIENCE
    greeting = _exactly(sock, GREETING, until)
    if not greeting.startswith(MARK):
        raise ConnectionError("what answers there is no process 0 of this version of selfevo_jax")
    theirs, own = greeting[len(MARK) :], secrets.token_bytes(_NONCE)
    sock.sendall(MARK + own + secret.proof(_MEMBER, theirs, own))
    if not hmac.compare_digest(_exactly(sock, PROOF_BYTES, until), secret.proof(_FIRST, theirs, own)):
        raise HostError(
            f"process 0 at {address} has another secret than this process (which has its own from {secret.origin}); "
            "give all processes the same SELFEVO_SECRET, or the same directory on storage that all share"
        )
    sock.settimeout(None)


def _exactly(sock: socket.socket, size: int, until: float) -> bytes:
    found = b""
    while len(found) < size:
        sock.settimeout(max(0.01, until - time.monotonic()))
        data = sock.recv(size - len(found))
        if not data:
            raise ConnectionError("it closed the connection without a greeting")
        found += data
    return found


@dataclass(eq=False)
class Guest:
    """A connection that has not proven the secret."""

    sock: socket.socket
    address: str
    until: float
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(_NONCE))
    got: bytes = b""


class Door:
    """Process 0's side, in the one thread that owns the selector, where each guest is the data of its connection.

    `refused` counts the connections that were closed since they did not prove the secret.
    """

    def __init__(self, server: socket.socket, selector: selectors.BaseSelector, secret: Secret) -> None:
        self._server, self._selector, self._secret = server, selector, secret
        self._guests: list[Guest] = []
        self.refused = 0
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ)

    def accept(self) -> None:
        """Greets who has come."""
        try:
            sock, address = self._server.accept()
        except OSError:
            return
        guest = Guest(sock, str(address[0]).removeprefix("::ffff:"), time.monotonic() + SECONDS)
        self._guests.append(guest)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, guest)
        self._send(guest, MARK + guest.nonce)
        if len(self._guests) > MOST:
            self._refuse(self._guests[0])

    def hear(self, guest: Guest) -> socket.socket | None:
        """Reads on; the connection, blocking and no longer in the selector, once it has proven the secret."""
        if guest not in self._guests:  # refused since the selector named it
            return None
        try:
            data = guest.sock.recv(ANSWER + 1 - len(guest.got))
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        guest.got += data
        marked = guest.got[: len(MARK)] == MARK[: len(guest.got)]
        if data and marked and len(guest.got) < ANSWER:
            return None
        if marked and len(guest.got) == ANSWER:
            nonce, proof = guest.got[len(MARK) : -PROOF_BYTES], guest.got[-PROOF_BYTES:]
            if hmac.compare_digest(proof, self._secret.proof(_MEMBER, guest.nonce, nonce)):
                self._let_go(guest)
                guest.sock.setblocking(True)
                self._send(guest, self._secret.proof(_FIRST, guest.nonce, nonce))
                return guest.sock
            self._send(guest, REFUSED)
        self._refuse(guest)
        return None

    def tidy(self, now: float) -> None:
        """Closes the connections that have taken too long."""
        for guest in [guest for guest in self._guests if now > guest.until]:
            self._refuse(guest)

    def close(self) -> None:
        for guest in list(self._guests):
            self._refuse(guest)
        self._selector.unregister(self._server)
        self._server.close()

    def _send(self, guest: Guest, content: bytes) -> None:
        try:
            guest.sock.sendall(content)
        except OSError:
            return  # its end is heard

    def _let_go(self, guest: Guest) -> None:
        self._guests.remove(guest)
        self._selector.unregister(guest.sock)

    def _refuse(self, guest: Guest) -> None:
        self._let_go(guest)
        guest.sock.close()
        self.refused += 1
        if self.refused == 1:
            print(
                f"warning: a connection from {guest.address} without the run's secret was refused; others are only "
                "counted. If it was a process of this run, give it the same SELFEVO_SECRET or shared directory",
                file=sys.stderr,
                flush=True,
            )
