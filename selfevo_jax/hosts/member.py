"""Each process's side: one connection to process 0, signs of life in both directions, and the end of this process."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from selfevo_jax.hosts.door import introduce
from selfevo_jax.hosts.place import Place, is_loopback
from selfevo_jax.hosts.secret import Secret
from selfevo_jax.hosts.wire import BEATS, SILENT_SECONDS, HostError, Line, Message, Peer, gone, lost
from selfevo_jax.process import leave_now

GRACE_SECONDS = 2.0
"""From the news that the run has ended to the end of this process: the main thread may end it in its own words."""
_LATE = 5.0
_RETRY = 0.5
_SLACK = 10.0
"""Seconds more than process 0 waits: its own message says more than ours would."""


class Member:
    """This process's connection. `peers` are all processes, in the order of their ids."""

    def __init__(
        self, place: Place, limit: float, secret: Secret, versions: str = "", silent: float = SILENT_SECONDS
    ) -> None:
        """Comes to the roll call. Raises HostError that says who is absent after `limit` seconds, or why not."""
        self.place, self._secret, self._silent = place, secret, silent
        self.me = Peer(place.process_id, socket.gethostname(), os.getpid(), versions)
        self._finding: tuple[str, int] | None = None
        self._found = threading.Event()
        self._told = threading.Lock()
        self._answers: queue.Queue[Message] = queue.Queue()
        self._early: list[Message] = []
        """What came together with the welcome."""
        self._leaving = False
        self._work: list[str] = []
        """What this process is busy with, the innermost last."""
        self._line = self._connect(time.monotonic() + limit, limit)
        welcome = self._roll_call(limit)
        self.peers = [Peer.from_dict(tree) for tree in welcome["peers"]]
        self.jax_port = int(welcome["jax_port"])
        threading.Thread(target=self._watch, name="hosts-watch", daemon=True).start()

    def _connect(self, until: float, limit: float) -> Line:
        # process 0 may not reach itself under the name that the others know
        host = "127.0.0.1" if self.place.process_id == 0 and not is_loopback(self.place.host) else self.place.host
        while True:
            try:
                return self._introduced(socket.create_connection((host, self.place.port), timeout=10))
            except OSError as error:
                if time.monotonic() > until:
                    raise HostError(
                        f"process 0 did not answer at {self.place.address} within {limit:g} s ({error}); start it, or "
                        "check --coordinator"
                    ) from error
            time.sleep(_RETRY)

    def _introduced(self, sock: socket.socket) -> Line:
        try:
            introduce(sock, self._secret, self.place.address)
        except BaseException:
            sock.close()
            raise
        return Line(sock)

    def _roll_call(self, limit: float) -> Message:
        self._line.send({"hello": self.me.to_dict(), "processes": self.place.processes})
        until = time.monotonic() + limit + _SLACK
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._line], [], [], left)[0]:
                break
            messages = self._line.read()
            if messages is None:
                raise HostError(f"{self.place.address} closed the connection: process 0 has ended, see its own log")
            for number, message in enumerate(messages):
                if message.get("kind") == "welcome":
                    self._early = messages[number + 1 :]
                    return message
                if message.get("kind") == "refused":
                    raise HostError(str(message["why"]))
        raise HostError(f"process 0 at {self.place.address} did not begin within {limit:g} s; see its own log")

    # --- what the main thread calls

    def meet(self, name: str, value: Any, limit: float) -> list[Any]:
        """Waits until every process is at `name`; returns what each brought, in the order of their ids.

        Raises HostError that names the missing processes after `limit` seconds in which none of them was `working`, or
        the one that has ended.
        """
        self._line.send({"kind": "at", "name": name, "value": value, "limit": limit})
        message = self._answer()
        if message["kind"] == "missed":
            raise HostError(str(message["why"]))
        values = message["values"]
        assert isinstance(values, list)
        return values

    def _answer(self) -> Message:
        """Process 0 keeps the limits; that it lives is the watch's part."""
        while self._finding is None:
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=0.2)
        raise HostError(self._finding[0])

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Tells process 0 that this process is busy, so that no limit of those who wait for it runs out."""
        self._work.append(what)
        self._line.send({"kind": "work", "what": what})
        try:
            yield
        finally:
            self._work.pop()
            self._line.send({"kind": "work", "what": self._work[-1] if self._work else None})

    def tell(self, why: str, code: int) -> None:
        """Ends all other processes with this message; returns when process 0 has passed it on."""
        self._leaving = True
        self._line.send({"kind": "fatal", "why": why, "code": code})
        self._noted(3.0)

    def leave(self) -> None:
        """Says that this process goes, so that its end is no loss."""
        self._leaving = True
        self._line.send({"kind": "bye"})
        self._noted(10.0)

    def _noted(self, limit: float) -> None:
        until = time.monotonic() + limit
        while time.monotonic() < until and self._finding is None:
            try:
                if self._answers.get(timeout=0.1)["kind"] == "noted":
                    return
            except queue.Empty:
                continue

    def finding(self, wait: float = 0.0) -> tuple[str, int] | None:
        """What ended the run elsewhere, and its exit code; waits for it if need be."""
        self._found.wait(wait)
        return self._finding

    def say_once(self, text: str) -> None:
        """Prints an error; what comes second is not printed: the first one is the cause."""
        if self._told.acquire(blocking=False):
            sys.stdout.flush()
            print(f"error: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._leaving = True
        self._line.close()

    # --- the thread

    def _hear(self, messages: list[Message]) -> None:
        for message in messages:
            if message.get("kind") == "end":
                self._end(str(message["why"]), int(message["code"]))
            elif message.get("kind") != "beat":
                self._answers.put(message)

    def _watch(self) -> None:
        last = beat = heard = time.monotonic()
        self._hear(self._early)
        while True:
            try:
                readable = select.select([self._line], [], [], 0.5)[0]
            except (OSError, ValueError):
                return  # closed by this process
            now = time.monotonic()
            if readable:
                heard = now
                messages = self._line.read()
                if messages is None:
                    if not self._leaving:
                        self._end(gone(self.peers[0]), 1)
                    return
                self._hear(messages)
            elif now - last > _LATE:
                heard = now  # this process was held up itself
            elif now - heard > self._silent and not self._leaving:
                self._end(lost(self.peers[0], self._silent), 1)
                return
            last = now
            if now - beat >= self._silent / BEATS:
                beat = now
                self._line.send({"kind": "beat"})

    def _end(self, why: str, code: int) -> None:
        """The run has ended elsewhere; does not return. The main thread may hang in native code: it has a moment to end
        by itself."""
        self._finding = (why, code)
        self._found.set()
        time.sleep(GRACE_SECONDS)
        self.say_once(why)
        leave_now(code)
