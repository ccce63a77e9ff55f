"""Process 0's side: the roll call, the meeting points, and the watch over all. One thread owns all of its state."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from selfevo_jax.errors import ConfigError
from selfevo_jax.hosts.door import Door, Guest
from selfevo_jax.hosts.place import is_loopback
from selfevo_jax.hosts.secret import Secret
from selfevo_jax.hosts.wire import BEATS, SILENT_SECONDS, Line, Message, Peer, gone, listed, lost

_TICK = 0.5
_LATE = 5.0
"""Seconds by which this thread may be held up before it distrusts its own clock."""


@dataclass
class _Member:
    """A process that has come to the roll call."""

    peer: Peer
    line: Line
    heard: float
    at: tuple[str, Any] | None = None
    """The meeting point where it waits, and what it brought."""
    work: str | None = None
    """What it is busy with alone: those who wait for it go on waiting."""
    left: bool = False


@dataclass
class _Meeting:
    name: str
    limit: float
    until: float


@dataclass
class _State:
    members: dict[int, _Member] = field(default_factory=dict)
    newcomers: list[Line] = field(default_factory=list)
    """Connections that know the secret and have not said who they are."""
    meeting: _Meeting | None = None
    welcomed: bool = False
    ended: str | None = None
    """Why the run ends: told once to all, and to whoever comes later."""


class Registry:
    """Listens at the coordinator's address. Every process, process 0 too, holds one connection to it, on which it has
    proven the run's secret (`Door`).

    A message `hello` is answered by `welcome` when all are there, or by `refused`. Then: `beat` is a sign of life;
    `at` waits at a meeting point and is answered by `met` (with what all brought) or `missed`; `work` says what a
    process is busy with, so that nobody's waiting for it runs into a limit; `fatal` ends all others
    with a message, and is answered by `noted`; `bye` lets a process go without that being a loss. `end` tells a
    process to end.
    """

    def __init__(
        self,
        host: str,
        port: int,
        processes: int,
        limit: float,
        secret: Secret,
        jax_port: int = 0,
        silent: float = SILENT_SECONDS,
    ) -> None:
        self._processes, self._limit, self._jax_port, self._silent = processes, limit, jax_port, silent
        self._state = _State()
        self._selector = selectors.DefaultSelector()
        try:
            server = _listen(host, port)
        except OSError as error:
            raise ConfigError(
                f"--coordinator {host}:{port}: process 0 cannot listen there ({error.strerror or error}); "
                "choose another port, or end the process that holds it"
            ) from error
        self.port: int = server.getsockname()[1]
        self._door = Door(server, self._selector, secret)
        self._begin = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hosts-registry", daemon=True)
        self._thread.start()

    @property
    def refused(self) -> str | None:
        """How many connections were refused, in words; None for none."""
        count = self._door.refused
        return f"connections without the run's secret, which were refused: {count}" if count else None

    def close(self) -> None:
        """Ends the thread and closes every connection."""
        self._stop.set()
        self._thread.join(timeout=5)

    # --- the thread

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._end(f"process 0 can no longer bring the processes together ({type(error).__name__}: {error})", 1)
            raise
        finally:
            for line in [*(m.line for m in self._state.members.values()), *self._state.newcomers]:
                line.close()
            self._door.close()
            self._selector.close()

    def _serve(self) -> None:
        last = beat = time.monotonic()
        while not self._stop.is_set():
            for key, _ in self._selector.select(timeout=_TICK):
                if isinstance(key.data, Guest):
                    self._let_in(key.data)
                elif isinstance(key.data, Line):
                    self._read(key.data)
                else:
                    self._door.accept()
            now = time.monotonic()
            if now - last > _LATE:  # held up, or the machine slept: what was said meanwhile has not been read yet
                for member in self._state.members.values():
                    member.heard = now
            last = now
            if now - beat >= self._silent / BEATS:
                beat = now
                for member in self._state.members.values():
                    member.line.send({"kind": "beat"})
            self._check(now)

    def _let_in(self, guest: Guest) -> None:
        sock = self._door.hear(guest)
        if sock is not None:
            line = Line(sock)
            self._state.newcomers.append(line)
            self._selector.register(sock, selectors.EVENT_READ, line)

    def _drop(self, line: Line) -> None:
        self._selector.unregister(line.fileno())
        line.close()
        if line in self._state.newcomers:
            self._state.newcomers.remove(line)

    def _read(self, line: Line) -> None:
        messages = line.read()
        member = next((m for m in self._state.members.values() if m.line is line), None)
        if messages is None:
            self._drop(line)
            if member is not None:
                self._gone(member)
            return
        for message in messages:
            if member is None:
                member = self._hello(line, message)
                if member is None:
                    return
            elif not self._hear(member, message):
                self._drop(line)
                self._gone(member)
                return

    def _gone(self, member: _Member) -> None:
        """The connection of a member has closed."""
        if not self._state.welcomed:
            del self._state.members[member.peer.id]  # it may come again before the roll call ends
        elif not member.left:
            member.left = True
            self._end(gone(member.peer), 1)

    # --- messages

    def _hello(self, line: Line, message: Message) -> _Member | None:
        """Takes a newcomer in, or refuses it with a reason."""

        def refuse(why: str) -> None:
            line.send({"kind": "refused", "why": why})
            self._drop(line)

        state = self._state
        try:
            peer, processes = Peer.from_dict(message["hello"]), int(message["processes"])
        except (KeyError, ValueError, TypeError, OverflowError):
            self._drop(line)
            return None
        first = next(iter(state.members.values())).peer if state.members else peer
        if state.ended is not None:
            refuse(state.ended)
        elif state.welcomed:
            refuse(f"the run has begun without {peer}: it came after all {self._processes} processes were there")
        elif processes != self._processes:
            refuse(f"{peer} was given --processes {processes}, process 0 {self._processes}; give all the same number")
        elif not 0 <= peer.id < self._processes:
            refuse(f"{peer}: expected ids 0 to {self._processes - 1}")
        elif peer.id in state.members:
            why = f"{peer} and {state.members[peer.id].peer} were both given --process-id {peer.id}; give each its own"
            refuse(why)
            self._refuse_all(why)
        elif peer.versions != first.versions:
            why = f"{peer} runs {peer.versions}, {first} {first.versions}; install the same on all hosts"
            refuse(why)
            self._refuse_all(why)
        else:
            state.newcomers.remove(line)
            state.members[peer.id] = member = _Member(peer, line, time.monotonic())
            if len(state.members) == self._processes:
                state.welcomed = True
                peers = [state.members[i].peer.to_dict() for i in range(self._processes)]
                for each in state.members.values():
                    each.heard = time.monotonic()
                    each.line.send({"kind": "welcome", "peers": peers, "jax_port": self._jax_port})
            return member
        return None

    def _refuse_all(self, why: str) -> None:
        self._state.ended = why
        for member in self._state.members.values():
            member.line.send({"kind": "refused", "why": why})

    def _hear(self, member: _Member, message: Message) -> bool:
        """Whether it was a message of the kinds above, or a later one."""
        member.heard = time.monotonic()
        kind = message.get("kind")
        try:
            if kind == "at":
                member.at = (str(message["name"]), message.get("value"))
                self._meet(member.at[0], float(message["limit"]))
            elif kind == "work":
                member.work = message["what"]
            elif kind == "fatal":
                self._end(f"{member.peer}: {message['why']}", int(message.get("code", 1)), by=member)
                member.left = True
                member.line.send({"kind": "noted"})
            elif kind == "bye":
                member.left = True
                member.line.send({"kind": "noted"})
        except (KeyError, ValueError, TypeError):
            return False
        return True

    def _meet(self, name: str, limit: float) -> None:
        state, members = self._state, [m for _, m in sorted(self._state.members.items())]
        if state.meeting is None:
            state.meeting = _Meeting(name, limit, time.monotonic() + limit)
        waiting = [m for m in members if m.at is not None]
        if len(waiting) < self._processes:
            return
        state.meeting = None
        points = [m.at for m in waiting if m.at is not None]
        for m in waiting:
            m.at = None
        if len({point[0] for point in points}) == 1:
            for m in waiting:
                m.line.send({"kind": "met", "name": points[0][0], "values": [value for _, value in points]})
        else:
            where = listed([f"{m.peer} at '{point[0]}'" for m, point in zip(waiting, points, strict=True)])
            why = f"the processes wait for each other at different points: {where}; every process must make all calls"
            for m in waiting:
                m.line.send({"kind": "missed", "why": why})

    # --- time

    def _check(self, now: float) -> None:
        self._door.tidy(now)
        state = self._state
        if not state.welcomed:
            if state.ended is None and now - self._begin > self._limit:
                absent = [i for i in range(self._processes) if i not in state.members]
                here = listed([str(m.peer) for _, m in sorted(state.members.items())]) or "none"
                self._refuse_all(
                    f"process {listed(absent)} of {self._processes} did not start within {self._limit:g} s "
                    f"(present: {here}); start them all, with the same --coordinator"
                    + (f"; {self.refused} (see the logs of the absent ones)" if self.refused else "")
                )
            return
        for member in state.members.values():
            if not member.left and now - member.heard > self._silent:
                member.left = True
                self._end(lost(member.peer, self._silent), 1)
        meeting = state.meeting
        if meeting is not None and any(m.work for m in state.members.values() if m.at is None and not m.left):
            meeting.until = now + meeting.limit
        elif meeting is not None and now > meeting.until:
            state.meeting = None
            waiting = [m for m in state.members.values() if m.at is not None]
            missing = [str(m.peer) for _, m in sorted(state.members.items()) if m.at is None]
            why = f"'{meeting.name}': {listed(missing)} did not come there within {meeting.limit:g} s"
            for m in waiting:
                m.at = None
                m.line.send({"kind": "missed", "why": why})

    def _end(self, why: str, code: int, by: _Member | None = None) -> None:
        """Ends all but the one who says so; the first reason counts."""
        if self._state.ended is not None:
            return
        self._state.ended = why
        for member in self._state.members.values():
            if member is not by:
                member.line.send({"kind": "end", "why": why, "code": code})


def listening_host(host: str) -> str:
    """Where process 0 listens: on all addresses of its machine; for a loopback address there alone."""
    if is_loopback(host):
        return host
    return "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"


def _listen(host: str, port: int) -> socket.socket:
    where = listening_host(host)
    if where == "[::]":
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    return socket.create_server((where, port), backlog=1024)


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
