"""Only who proves the run's secret is heard; the processes are played by threads, strangers by sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strangers import is_closed, messages, send

from selfevo_jax.hosts import HostError, Place, Secret, door
from selfevo_jax.hosts.door import ANSWER, GREETING, MARK, REFUSED
from selfevo_jax.hosts.member import Member
from selfevo_jax.hosts.registry import Registry
from selfevo_jax.hosts.wire import Line

LIMIT = 30.0
SECRET = Secret(b"a secret of these tests", "the test")
OTHER = Secret(b"another secret of theirs", "elsewhere")


@contextlib.contextmanager
def registry(processes: int = 2) -> Iterator[Registry]:
    found = Registry("127.0.0.1", 0, processes, LIMIT, SECRET)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SECONDS", 0.3)


def come(port: int, id: int, secret: Secret = SECRET) -> Member:
    return Member(Place("127.0.0.1", port, 2, id), LIMIT, secret)


def pair(port: int, other: int | None = None) -> list[Member]:
    """Two processes that come at the same time; the second one perhaps at another port."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(come, (port, other or port), (0, 1)))


def end(members: list[Member]) -> None:
    for member in members:
        member.leave()
        member.close()


def refused(found: Registry, count: int) -> bool:
    """Whether so many are refused, in a while."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if (found.refused or "").endswith(f"which were refused: {count}"):
            return True
        time.sleep(0.05)
    return False


def test_strangers_before_and_in_a_run_are_refused_and_counted_and_the_run_goes_on(
    quick: None, capfd: pytest.CaptureFixture[str]
) -> None:
    said = messages(21)
    with registry() as found:
        early = [send(found.port, words) for words in said[:10]]
        members = pair(found.port)
        late = [send(found.port, words) for words in said[10:]]
        assert all(is_closed(stranger) for stranger in early + late)
        assert refused(found, len(said))
        with ThreadPoolExecutor(2) as pool:
            for name in ("tea", "cake"):
                assert list(pool.map(lambda m, n=name: m.meet(n, m.me.id, 10), members)) == [[0, 1], [0, 1]]
        assert members[1].finding() is None
        end(members)
    assert capfd.readouterr().err.count("a connection from 127.0.0.1 without the run's secret was refused") == 1


def test_a_connection_that_proves_nothing_is_closed_after_the_limit_in_seconds(quick: None) -> None:
    with registry() as found:
        silent = socket.create_connection(("127.0.0.1", found.port))
        half = send(found.port, MARK)
        begin = time.monotonic()
        assert is_closed(silent)
        assert is_closed(half)
        assert 0.2 < time.monotonic() - begin < 5
        assert refused(found, 2)


def test_the_oldest_of_too_many_silent_connections_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST", 3)
    with registry() as found:
        held = [socket.create_connection(("127.0.0.1", found.port)) for _ in range(5)]
        assert [is_closed(one, 3) for one in held[:2]] == [True, True]
        assert not any(is_closed(one, 0.3) for one in held[2:])
        members = pair(found.port)  # those who know the secret come in all the same
        assert len(members[0].peers) == 2
        end(members)
        for one in held:
            one.close()


@settings(max_examples=60)
@given(words=st.one_of(st.binary(max_size=200), st.binary(min_size=ANSWER - 8, max_size=ANSWER).map(MARK.__add__)))
def test_no_bytes_without_the_secret_are_let_in(words: bytes, one_registry: Registry) -> None:
    with send(one_registry.port, words) as stranger:
        with contextlib.suppress(OSError):  # closed already
            stranger.shutdown(socket.SHUT_WR)
        assert is_closed(stranger)


@pytest.fixture(scope="module")
def one_registry() -> Iterator[Registry]:
    with registry() as found:
        yield found


def test_another_secret_is_refused_with_where_it_came_from_and_the_remedy() -> None:
    with registry() as found:
        with pytest.raises(HostError, match="another secret than this process .* from elsewhere.*same SELFEVO_SECRET"):
            come(found.port, 1, OTHER)
        assert refused(found, 1)
        members = pair(found.port)
        end(members)


def test_a_proof_is_of_no_use_on_another_connection() -> None:
    with registry() as found:
        first = socket.create_connection(("127.0.0.1", found.port))
        nonce = first.recv(GREETING)[len(MARK) :]
        answer = MARK + bytes(32) + SECRET.proof("a process of the run", nonce, bytes(32))
        second = socket.create_connection(("127.0.0.1", found.port))
        second.recv(GREETING)
        second.sendall(answer)
        assert second.recv(64) == REFUSED
        first.sendall(answer)
        assert first.recv(64) == SECRET.proof("process 0", nonce, bytes(32))
        first.close()


def test_what_listens_in_place_of_process_0_without_the_secret_is_not_believed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def play() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(MARK + bytes(32))
                sock.recv(ANSWER)
                sock.sendall(bytes([1]) * 32)

        threading.Thread(target=play, daemon=True).start()
        with pytest.raises(HostError, match="another secret"):
            come(server.getsockname()[1], 1)


def test_the_secret_is_in_nothing_that_is_sent_or_shown() -> None:
    assert "secret of these" not in repr(SECRET)
    with registry() as found, socket.create_server(("127.0.0.1", 0)) as between:
        heard = bytearray()

        def pass_on(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 16):
                    heard.extend(data)
                    target.sendall(data)

        def relay() -> None:
            here, _ = between.accept()
            there = socket.create_connection(("127.0.0.1", found.port))
            for ends in ((here, there), (there, here)):
                threading.Thread(target=pass_on, args=ends, daemon=True).start()

        threading.Thread(target=relay, daemon=True).start()
        end(pair(found.port, between.getsockname()[1]))
    assert b"welcome" in heard
    assert SECRET.key not in heard


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b"3", b"{"])
def test_a_message_that_cannot_be_read_is_none(body: bytes) -> None:
    here, there = _connected()
    there.sendall(len(body).to_bytes(4, "big") + body)
    line, found = Line(here), []
    while found == []:
        found = line.read()  # type: ignore[assignment]
    assert found is None
    here.close()
    there.close()


def test_a_length_without_bounds_is_refused_before_anything_is_kept() -> None:
    here, there = _connected()
    there.sendall(b"\xff\xff\xff\xff")
    assert Line(here).read() is None
    here.close()
    there.close()


def test_a_message_of_which_a_part_is_sent_ends_the_connection() -> None:
    here, there = _connected()
    line = Line(here)
    for end in (here, there):
        end.setblocking(False)
    assert not line.send({"kind": "met", "values": "x" * (1 << 24)})  # the other end reads nothing
    there.setblocking(True)
    there.settimeout(10)
    while there.recv(1 << 20):
        pass
    assert not line.send({"kind": "beat"})
    here.close()
    there.close()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        return server.accept()[0], there
