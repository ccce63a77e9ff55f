"""Notices that this machine is about to be taken away."""

import http.server
import signal
import threading
import time

import pytest

from selfevo_jax import hosts, notice
from selfevo_jax.errors import Preempted


def wait(seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not notice.given() and time.monotonic() < until:
        time.sleep(0.01)
    return notice.given()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    """A metadata server on this machine, and what it answers."""
    answers = {"preempted": "FALSE", "maintenance-event": "NONE"}

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.removeprefix("/computeMetadata/v1/instance/"))
            good = found is not None and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if good else 404)
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{running.server_port}")
        yield answers
        running.shutdown()


@pytest.mark.parametrize(
    ("key", "value"), [("preempted", "TRUE"), ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE\n")]
)
def test_what_the_metadata_server_tells_is_a_notice_that_names_it(server: dict[str, str], key: str, value: str) -> None:
    with notice.heeded(hosts.metadata, poll=0.02):
        time.sleep(0.2)
        assert not notice.given()
        server[key] = value
        assert wait()
        with pytest.raises(Preempted, match=rf"{key} is {value.strip()}.*while asleep"):
            notice.stop_if_given("while asleep")
    assert not notice.given()


def test_a_live_migration_or_a_server_that_falters_is_no_notice(server: dict[str, str]) -> None:
    with notice.heeded(hosts.metadata, poll=0.02):
        server["maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
        time.sleep(0.2)
        del server["preempted"]
        time.sleep(0.2)
        assert not notice.given()
        server["preempted"] = "TRUE"
        assert wait()


@pytest.mark.parametrize("failing", ["preempted", "maintenance-event"])
def test_a_question_that_fails_is_asked_again_from_the_first_and_is_no_notice(failing: str) -> None:
    faults: list[Exception] = [hosts.MetadataError("HTTP 503"), TimeoutError("timed out"), ValueError("no text")]
    answers = dict.fromkeys(("preempted", "maintenance-event"), "NONE")

    def ask(key: str) -> str:
        if key == failing and faults:
            raise faults.pop(0)
        return answers[key]

    with notice.heeded(ask, poll=0.02):
        time.sleep(0.3)
        assert not faults
        assert not notice.given()
        answers[failing] = "TRUE" if failing == "preempted" else "TERMINATE_ON_HOST_MAINTENANCE"
        assert wait()


def test_a_key_that_is_never_answered_hides_no_other_and_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = threading.Event()

    def ask(key: str) -> str:
        if key == "preempted":
            raise hosts.MetadataError("HTTP 500")
        return "TERMINATE_ON_HOST_MAINTENANCE" if told.is_set() else "NONE"

    with notice.heeded(ask, poll=0.005):
        time.sleep(0.5)
        assert not notice.given()
        told.set()
        assert wait()
    assert capsys.readouterr().err.count("12 questions in a row failed (HTTP 500)") == 1


def test_elsewhere_nobody_is_asked_again() -> None:
    asked = []
    with notice.heeded(lambda key: asked.append(key), poll=0.01):
        time.sleep(0.2)
    assert len(asked) == 2


def test_sigterm_is_a_notice_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with notice.heeded(lambda _: None):
        signal.raise_signal(signal.SIGTERM)
        assert wait(1)
        assert signal.getsignal(signal.SIGTERM) == before
