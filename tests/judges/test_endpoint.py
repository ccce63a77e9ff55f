"""A judge behind a server on this machine that is busy, broken and slow."""

import asyncio
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("openai")

from completions_server import serving
from quick_processes import start

from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.judges import EndpointSection, asking, endpoint
from selfevo_jax.judges.endpoint import NO_KEY, Question, ask_endpoint, read_answer
from selfevo_jax.progress import Reporter
from selfevo_jax.run.journal import Journal

KEY = "sk-of-these-tests"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    # tries follow each other at once; what the server asks to wait is waited for all the same
    monkeypatch.setattr(endpoint, "Pace", lambda *a, **k: asking.Pace(*a, **k, first_wait=0.01))


class Heard(Reporter):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    warn = line


def questions(n: int) -> list[Question]:
    return [Question.of(f"q{i}", "be fair", f"prompt {i}") for i in range(n)]


def ask(server, n: int = 6, log=None, heard=None, **settings):
    section = EndpointSection(url=server.url, model="m", **{"concurrency": 4, "retries": 6, **settings})
    return ask_endpoint(section, questions(n), log, heard or Heard(), "asking")


def test_a_server_that_is_busy_breaks_hangs_up_halves_its_json_and_is_slow_is_asked_until_it_answers():
    faults = ["429 wait 1", "500", "hang up", "half json", "half body", "slow", "drip", "503", "text", "no choices"]

    def fault(prompt: str, n: int) -> str | None:
        number = int(prompt.removeprefix("prompt "))
        return faults[number % len(faults)] if n == 1 else None

    heard, begin = Heard(), time.monotonic()
    with serving(fault) as server:
        answers = ask(server, 20, heard=heard, answer_seconds=0.4)
    assert [a.text for a in answers] == [f"said to prompt {i}" for i in range(20)]
    assert all(a.whole and (a.prompt_tokens, a.completion_tokens) == (7, 3) for a in answers)
    assert set(server.asked.values()) == {2}
    assert sorted(server.answered) == sorted(f"prompt {i}" for i in range(20))
    assert server.most_at_once <= 4 + 4  # those that were broken off may still be at it there
    assert time.monotonic() - begin < 15
    assert any("140 tokens read and 60 written" in line for line in heard.lines)


def test_a_server_is_asked_from_within_a_loop_that_runs_as_in_a_notebook():
    async def cell(server):
        return ask(server, 2)

    with serving(lambda prompt, n: None) as server:
        assert [a.text for a in asyncio.run(cell(server))] == ["said to prompt 0", "said to prompt 1"]


def test_an_answer_is_kept_as_it_comes_and_not_asked_for_again(tmp_path):
    class Killed(Exception):
        pass

    class Kills:
        """A log that is killed behind its fourth row."""

        def __init__(self, log: Journal) -> None:
            self._log, self.rows = log, log.rows

        def append(self, row) -> None:
            self._log.append(row)
            if len(self._log.rows) == 4:
                raise Killed

    path = tmp_path / "answers.jsonl"
    with serving() as server:
        with Journal(path, belongs="this") as log, pytest.raises(Killed):
            ask(server, 10, Kills(log), concurrency=1)
        kept = {json.loads(line)["id"] for line in path.read_text().splitlines()}
        assert len(kept) == 4
        with Journal(path, belongs="this") as log:
            answers = ask(server, 10, log)
        assert [a.text for a in answers] == [f"said to prompt {i}" for i in range(10)]
        assert {server.asked[f"prompt {id[1:]}"] for id in kept} == {1}
        with Journal(path, belongs="this") as log:
            assert ask(server, 10, log) == answers
        assert sum(server.asked.values()) == 10
    assert KEY not in path.read_text()


ASKS = """
import sys
from pathlib import Path
from selfevo_jax.judges import EndpointSection
from selfevo_jax.judges.endpoint import Question, ask_endpoint
from selfevo_jax.progress import Reporter
from selfevo_jax.run.journal import Journal
with Journal(Path(sys.argv[2])) as log:
    questions = [Question.of(f"q{i}", "be fair", f"prompt {i}") for i in range(12)]
    ask_endpoint(EndpointSection(url=sys.argv[1], model="m", concurrency=2), questions, log, Reporter(), "asking")
"""


def test_a_killed_process_asks_only_what_it_had_no_answer_to(tmp_path):
    path, root = tmp_path / "answers.jsonl", Path(endpoint.__file__).parents[2]
    with serving(lambda prompt, n: "slow" if int(prompt.removeprefix("prompt ")) > 6 and n == 1 else None) as server:
        process = start(["-c", ASKS, server.url, path], cwd=root)
        end = time.monotonic() + 60
        while not (path.exists() and path.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
        process.wait()
        kept = {json.loads(line)["id"] for line in path.read_bytes().split(b"\n")[:-1]}
        assert 5 <= len(kept) < 12
        with Journal(path) as log:
            assert all(answer.whole for answer in ask(server, 12, log))
        assert {server.asked[f"prompt {id[1:]}"] for id in kept} == {1}


def test_what_could_not_be_asked_is_counted_and_not_kept(tmp_path):
    heard = Heard()
    refuses = serving(lambda prompt, n: "400" if prompt == "prompt 1" else None)
    with refuses as server, Journal(tmp_path / "log.jsonl") as log:
        answers = ask(server, 5, log, heard)
        assert len(log.rows) == 4
    assert [a.error is None for a in answers] == [True, False, True, True, True]
    assert not answers[1].whole
    assert any(
        "1 of 5 questions have no answer, and count as not asked (the first, q1: HTTP 400" in x for x in heard.lines
    )


def test_a_clipped_answer_is_not_whole():
    with serving(lambda prompt, n: "clipped") as server:
        assert [(a.finish, a.whole, a.error) for a in ask(server, 1)] == [("length", False, None)]


def test_the_key_comes_from_the_environment_and_is_in_no_message(monkeypatch):
    with serving(lambda prompt, n: "401") as server:
        with pytest.raises(ConfigError, match="HTTP 401.*OPENAI_API_KEY holds a key that it does not take") as caught:
            ask(server)
        assert KEY not in str(caught.value)
        assert server.keys == {f"Bearer {KEY}"}
        monkeypatch.delenv("OPENAI_API_KEY")
        with pytest.raises(ConfigError, match="the environment variable MINE is not set"):
            ask(server, key_variable="MINE")
        assert sum(server.asked.values()) <= 8
    assert endpoint._hidden(f"your key {KEY} is odd", KEY) == "your key *** is odd"


def test_a_model_that_is_not_there_and_a_server_that_is_not_there_are_one_clear_line():
    with serving(lambda prompt, n: "404") as server, pytest.raises(ConfigError, match="HTTP 404.*a model it has"):
        ask(server)
    with pytest.raises(SelfevoError, match=r"questions in a row were not answered \(the connection failed"):
        ask(server, retries=1)


def test_why_nothing_answers_is_said_at_the_first_try_and_the_asking_ends_soon(monkeypatch):
    monkeypatch.setattr(endpoint, "_reached", set())
    with serving() as server:
        pass
    heard = Heard()
    with pytest.raises(SelfevoError, match=r"\(Connection refused\) at each of 5 tries, and nothing has answered"):
        ask(server, 3, heard=heard)
    assert heard.lines[0].endswith(f"{server.url}: the connection failed (Connection refused); asking again")


def test_progress_says_what_is_on_its_way_and_nothing_empty(monkeypatch):
    notes = []
    monkeypatch.setattr("selfevo_jax.progress.Meter.set", lambda self, done, note="": notes.append(note))

    class Free:
        note = refusal = ""

        def admits(self, question):
            return True

        def settle(self, question, answer):
            pass

    with serving() as server:
        ask_endpoint(EndpointSection(url=server.url, model="m"), questions(2), None, Heard(), "asking", purse=Free())
    assert notes == ["1 side by side, 0 asked again, 0 failed"] * 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_to_wait_is_read_in_all_its_forms(headers, seconds):
    assert endpoint._wait(headers) == seconds


def test_an_endpoint_is_a_url(tmp_path):
    assert EndpointSection(url="https://host/v1/", model="m").url == "https://host/v1"
    for url in (
        "host",
        "http://",
        "http://:80",
        "http://h:99999999/v1",
        "http://h h/v1",
        "https://hö.st/v1",
        "ftp://h",
    ):
        with pytest.raises(ValueError, match="expected a URL"):
            EndpointSection(url=url, model="m")
    with pytest.raises(ValueError, match="expected the part before /chat/completions"):
        EndpointSection(url="https://host/v1/chat/completions", model="m")
    wrong = {"model": " ", "temperature": math.inf, "retries": 10**9, "answer_seconds": 1e300, "concurrency": 10**9}
    for key, value in wrong.items():
        with pytest.raises(ValueError, match=key):
            EndpointSection(**{"url": "https://host/v1", "model": "m", key: value})
    with pytest.raises(ValueError, match="the key itself does not belong here"):
        EndpointSection(url="https://host/v1", model="m", key_variable=KEY)


def test_an_answer_with_half_a_character_is_kept_and_asked_for_once(tmp_path):
    with serving(lambda prompt, n: "says half \ud800, whole \u00e9") as server:
        for _ in range(2):
            with Journal(tmp_path / "log.jsonl") as log:
                assert ask(server, 1, log)[0].text == "half ?, whole é"
        assert server.asked.total() == 1


def test_a_key_with_a_line_end_is_sent_without_it_and_one_that_no_header_holds_is_refused_and_not_shown(monkeypatch):
    with serving() as server:
        monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
        ask(server, 1)
        assert server.keys == {f"Bearer {KEY}"}
        for key in ("sk-of\nthese-tests", "sk-öf-these-tests"):
            monkeypatch.setenv("OPENAI_API_KEY", key)
            with pytest.raises(ConfigError, match="OPENAI_API_KEY holds a key with white space or other") as caught:
                ask(server, 1)
            assert "these-tests" not in str(caught.value)


def test_a_word_that_stands_for_a_key_is_not_taken_out_of_answers(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with serving(lambda prompt, n: "says The answer is EMPTY.") as server:
        assert ask(server, 1)[0].text == "The answer is EMPTY."
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda prompt, n: f"says your key is {KEY}") as server:
        assert ask(server, 1)[0].text == "your key is ***"


def test_a_server_is_looked_at_before_it_is_asked(monkeypatch):
    with serving() as server:
        section = EndpointSection(url=server.url, model="big")
        assert endpoint.server_notice(section) is None  # it lists no models
        server.models = ["small", "big"]
        assert endpoint.server_notice(section) is None
        server.models = ["small", "bigger"]
        assert endpoint.server_notice(section) == f"{server.url}: lists no model 'big', but small, bigger"
        assert server.asked.total() == 0
    said = endpoint.server_notice(EndpointSection(url="http://127.0.0.1:1/v1", model="big"))
    assert said.startswith("http://127.0.0.1:1/v1: cannot be reached now (")


@pytest.mark.parametrize("count", [-5, 0, 10**400, 1.5, "7", None])
def test_a_count_of_tokens_that_is_none_costs_nothing_and_is_told_as_not_counted(count) -> None:
    choice = SimpleNamespace(message=SimpleNamespace(content="a"), finish_reason="stop")
    usage = SimpleNamespace(prompt_tokens=count, completion_tokens=count)
    found = read_answer("a", SimpleNamespace(choices=[choice], usage=usage), NO_KEY)
    assert (found.prompt_tokens, found.completion_tokens) == (0, 0)
