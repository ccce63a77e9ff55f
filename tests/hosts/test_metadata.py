"""The metadata server of a TPU machine: a question that failed is no answer."""

from __future__ import annotations

import http.server
import importlib
import socket
import threading
from collections.abc import Iterator

import pytest

from selfevo_jax import hosts
from selfevo_jax.errors import ConfigError
from selfevo_jax.hosts import MetadataError, Place, find_place
from selfevo_jax.hosts.metadata import surely

module = importlib.import_module("selfevo_jax.hosts.metadata")
"""Its function of the same name hides it."""
POD = {"worker-network-endpoints": "u:8470:10.0.0.5,v:8470:10.0.0.6", "agent-worker-number": "1"}


class Server:
    """On 127.0.0.1; `faults` are the codes of the next answers (0: the connection is closed without one)."""

    def __init__(self) -> None:
        self.faults: list[int] = []
        self.asked = 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            code = found.faults.pop(0) if found.faults else 200
            value = POD.get(self.path.removeprefix("/computeMetadata/v1/instance/attributes/"))
            if code == 0:
                return
            self.send_response(404 if value is None and code == 200 else code)
            self.end_headers()
            self.wfile.write((value or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{running.server_port}")
        monkeypatch.setattr(module, "_BACK_OFF", 0.01)
        yield found
        running.shutdown()


@pytest.mark.parametrize("fault", [503, 500, 502, 429, 403, 0])
def test_a_failed_question_makes_no_worker_of_a_pod_work_alone(server: Server, fault: int) -> None:
    server.faults = [fault, fault]
    assert find_place(environ={}) == Place("10.0.0.5", 8482, 2, 1)


@pytest.mark.parametrize("fault", [503, 0])
def test_one_question_that_failed_is_an_error_and_no_answer(server: Server, fault: int) -> None:
    server.faults = [fault]
    with pytest.raises(MetadataError, match="instance/preempted: "):
        hosts.metadata("preempted")
    assert hosts.metadata("preempted") is None  # 404
    assert hosts.metadata("attributes/agent-worker-number") == "1"


def test_a_server_that_never_answers_ends_the_start_with_what_to_say(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = [503] * 10_000
    monkeypatch.setattr(module, "ASK_SECONDS", 0.2)
    with pytest.raises(MetadataError, match=r"HTTP 503, asked for 0.2 s: .*not known.*--processes 1"):
        find_place(environ={})
    assert server.asked > 3


def test_a_machine_without_such_a_server_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{port}")
    assert find_place(environ={}) is None

    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", no_name)
    assert hosts.metadata("preempted") is None

    def no_names_now(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "create_connection", no_names_now)
    with pytest.raises(MetadataError, match="Temporary failure"):
        hosts.metadata("preempted")


def test_no_proxy_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert hosts.metadata("attributes/agent-worker-number") == "1"


def test_it_is_asked_again_at_longer_and_longer_intervals() -> None:
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    def ask(key: str) -> str | None:
        raise MetadataError("HTTP 503")

    with pytest.raises(MetadataError):
        surely(ask, lambda: now[0], sleep)("preempted")
    assert pauses[:5] == [0.5, 1, 2, 4, 8]
    assert max(pauses) == 8
    assert 50 < now[0] <= 60


def test_a_pod_whose_metadata_lacks_the_number_of_this_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match="pod of 2 workers, but TPU_WORKER_ID is None.*agent-worker-number"):
        find_place(environ={}, metadata=lambda key: POD[key] if key == "worker-network-endpoints" else None)
