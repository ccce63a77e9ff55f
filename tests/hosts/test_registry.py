"""The roll call and the meeting points, with the processes played by threads."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from selfevo_jax.errors import ConfigError
from selfevo_jax.hosts import HostError, Place, Secret
from selfevo_jax.hosts.member import Member
from selfevo_jax.hosts.registry import Registry

LIMIT = 10.0
SECRET = Secret(b"a secret of these tests", "the test")


@contextlib.contextmanager
def registry(processes: int, limit: float = LIMIT) -> Iterator[Registry]:
    found = Registry("127.0.0.1", 0, processes, limit, SECRET)
    try:
        yield found
    finally:
        found.close()


def at_once(calls: list[Callable[[], Any]]) -> list[Future[Any]]:
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        wait(futures)
        return futures


def coming(
    port: int, id: int, processes: int, versions: str = "", limit: float = LIMIT, secret: Secret = SECRET
) -> Callable[[], Member]:
    return lambda: Member(Place("127.0.0.1", port, processes, id), limit, secret, versions)


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


def test_a_process_with_another_secret_is_absent_and_counted() -> None:
    with registry(2, limit=1.0) as found:
        other = Secret(b"another secret of these", "elsewhere")
        first, second = at_once([coming(found.port, 0, 2), coming(found.port, 1, 2, secret=other)])
        with pytest.raises(HostError, match="process 0 at .* has another secret than this process"):
            second.result()
        with pytest.raises(HostError, match=r"process 1 of 2 did not start .*secret, which were refused: 1 \(see"):
            first.result()


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


def test_a_limit_does_not_run_out_while_the_one_that_is_waited_for_is_at_work(three: list[Member]) -> None:
    def late() -> list[Any]:
        with three[1].working("sealing"), three[1].working("reading"):
            time.sleep(1.2)
        return three[1].meet("tea", 10, 0.3)

    calls = [lambda: three[0].meet("tea", 0, 0.3), late, lambda: three[2].meet("tea", 20, 0.3)]
    assert [future.result() for future in at_once(calls)] == [[0, 10, 20]] * 3


def test_the_limit_counts_again_once_the_work_is_done(three: list[Member]) -> None:
    with three[1].working("sealing"):
        pass
    for future in meeting([three[0], three[2]], ["tea", "tea"], limit=0.3):
        with pytest.raises(HostError, match="'tea': process 1 .* did not come there within 0.3 s"):
            future.result()


def test_a_port_that_is_taken_is_named() -> None:
    with registry(2) as found, pytest.raises(ConfigError, match=f"--coordinator 127.0.0.1:{found.port}: process 0 can"):
        Registry("127.0.0.1", found.port, 2, LIMIT, SECRET)
