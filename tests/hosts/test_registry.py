"""The roll call and the meeting points, with the processes played by threads."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from selfevo_jax.errors import ConfigError
from selfevo_jax.hosts import HostError, Place
from selfevo_jax.hosts.member import Member
from selfevo_jax.hosts.registry import Registry

LIMIT = 10.0


@contextlib.contextmanager
def registry(processes: int, limit: float = LIMIT) -> Iterator[Registry]:
    found = Registry("127.0.0.1", 0, processes, limit)
    try:
        yield found
    finally:
        found.close()


def at_once(calls: list[Callable[[], Any]]) -> list[Future[Any]]:
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        wait(futures)
        return futures


def coming(port: int, id: int, processes: int, versions: str = "", limit: float = LIMIT) -> Callable[[], Member]:
    return lambda: Member(Place("127.0.0.1", port, processes, id), limit, versions)


@pytest.fixture
def three() -> Iterator[list[Member]]:
    with registry(3) as found:
        members = [future.result() for future in at_once([coming(found.port, i, 3) for i in range(3)])]
        yield members
        for member in members:
            member.leave()
            member.close()


def meeting(members: list[Member], names: list[str], limit: float = LIMIT) -> list[Future[Any]]:
    pairs = zip(members, names, strict=True)
    return at_once([lambda m=m, n=n: m.meet(n, m.me.id * 10, limit) for m, n in pairs])


def test_all_know_each_other_and_what_each_brings(three: list[Member]) -> None:
    assert [[peer.id for peer in member.peers] for member in three] == [[0, 1, 2]] * 3
    for _ in range(3):
        assert [future.result() for future in meeting(three, ["tea"] * 3)] == [[0, 10, 20]] * 3


def test_a_barrier_that_one_misses_names_it_and_the_barrier_after_the_limit(three: list[Member]) -> None:
    begin = time.monotonic()
    for future in meeting([three[0], three[2]], ["tea", "tea"], limit=0.5):
        with pytest.raises(HostError, match=r"'tea': process 1 \(host .*, pid \d+\) did not come there within 0.5 s"):
            future.result()
    assert 0.5 <= time.monotonic() - begin < 5


def test_processes_at_different_points_are_told_at_once(three: list[Member]) -> None:
    for future in meeting(three, ["tea", "cake", "tea"]):
        with pytest.raises(HostError, match=r"different points: process 0 .* at 'tea', process 1 .* at 'cake' and"):
            future.result()


def test_an_absent_process_is_named_to_those_that_are_there() -> None:  # C35
    with registry(4, limit=0.7) as found:
        for future in at_once([coming(found.port, i, 4, limit=0.7) for i in (0, 2)]):
            with pytest.raises(
                HostError, match=r"process 1 and 3 of 4 did not start within 0.7 s \(present: process 0"
            ):
                future.result()


def test_an_absent_process_0_is_named_with_its_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(HostError, match=f"process 0 did not answer at 127.0.0.1:{port} within 0.5 s"):
        coming(port, 1, 2, limit=0.5)()


def test_an_id_that_two_have_is_refused_on_all() -> None:
    with registry(3) as found:
        for future in at_once([coming(found.port, i, 3) for i in (0, 1, 1)]):
            with pytest.raises(HostError, match="were both given --process-id 1; give each its own"):
                future.result()


def test_other_versions_and_other_counts_are_refused() -> None:
    with registry(2) as found:
        for future in at_once([coming(found.port, i, 2, versions=f"jax 0.1{i}") for i in (0, 1)]):
            with pytest.raises(HostError, match=r"runs jax 0.1\d, process \d .* jax 0.1\d; install the same on all"):
                future.result()
    with registry(2) as found, pytest.raises(HostError, match="was given --processes 3, process 0 2"):
        coming(found.port, 1, 3)()


def test_what_is_no_process_of_the_run_is_not_heard() -> None:
    with registry(2) as found:
        talk = [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", json.dumps({"hello": {"id": 0}}).encode() + b"\n", b"\xff\n"]
        strangers = [socket.create_connection(("127.0.0.1", found.port)) for _ in talk]
        for stranger, words in zip(strangers, talk, strict=True):
            stranger.sendall(words)
        members = [future.result() for future in at_once([coming(found.port, i, 2) for i in range(2)])]
        assert [future.result() for future in meeting(members, ["tea", "tea"])] == [[0, 10]] * 2
        with pytest.raises(HostError, match="the run has begun without process 1"):
            coming(found.port, 1, 2)()
        for member in members:
            member.leave()
            member.close()
        for stranger in strangers:
            stranger.close()


def test_a_port_that_is_taken_is_named() -> None:
    with registry(2) as found, pytest.raises(ConfigError, match=f"--coordinator 127.0.0.1:{found.port}: process 0 can"):
        Registry("127.0.0.1", found.port, 2, LIMIT)
