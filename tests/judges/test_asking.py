"""Which question is sent when, without a network."""

import asyncio
import time
from dataclasses import dataclass

import pytest

from selfevo_jax.errors import SelfevoError
from selfevo_jax.judges.asking import Asking, Broken, Busy, Pace, Refused, Unreached

QUICK = {"concurrency": 16, "retries": 8, "answer_seconds": 5.0, "longest_wait_seconds": 300.0, "first_wait": 0.005}


@dataclass(frozen=True)
class Q:
    id: str


class Played:
    """Questions answered by a script: `say(id, try)` raises, or returns after so many seconds."""

    def __init__(self, say, **pace) -> None:
        self.say, self.pace = say, Pace(**{**QUICK, **pace})
        self.tries: dict[str, int] = {}
        self.answered: list[str] = []
        self.failed: dict[str, str] = {}
        self.limits: list[int] = []
        self.sent: list[float] = []
        self.at_once = self.most_at_once = 0

    async def ask(self, question: Q) -> str:
        self.sent.append(time.monotonic())
        self.tries[question.id] = self.tries.get(question.id, 0) + 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.say(question.id, self.tries[question.id]) or 0.0)
        finally:
            self.at_once -= 1
        return question.id

    def run(self, n: int, before: int = 0) -> Asking:
        asking: Asking = Asking(
            "server",
            self.ask,
            self.pace,
            lambda q, a: self.answered.append(a),
            lambda q, why: self.failed.update({q.id: why}),
            lambda a: self.limits.append(a.limit),
            before,
        )
        asyncio.run(asking.run([Q(str(i)) for i in range(n)]))
        return asking


def fails(error):
    raise error


def test_every_question_is_asked_once_where_nothing_goes_wrong():
    played = Played(lambda id, n: 0.001, concurrency=4)
    played.run(25)
    assert sorted(played.answered, key=int) == [str(i) for i in range(25)]
    assert set(played.tries.values()) == {1}
    assert played.most_at_once == 4


def test_a_slow_answer_and_a_failing_question_hold_up_no_other():
    """Two places: one is taken by a slow answer; a question that fails waits outside of them for its next try."""

    def say(id, n):
        if id == "0":
            return 0.5
        return fails(Broken("500")) if id == "1" and n < 4 else 0.001

    played = Played(say, concurrency=2, first_wait=0.02)
    played.run(40)
    assert played.answered[-1] == "0"
    assert len(played.answered) == 40
    assert played.tries["1"] == 4


def test_a_busy_server_halves_what_is_sent_once_for_all_that_were_on_their_way_and_it_grows_again():
    def say(id, n):
        return fails(Busy("429")) if int(id) < 8 and n == 1 else 0.001

    played = Played(say, concurrency=8)
    played.run(80)
    assert len(played.answered) == 80
    assert min(played.limits) == 4
    assert played.limits[-1] > 4


def test_nothing_is_sent_before_the_time_that_a_busy_server_asks_to_wait():
    played = Played(lambda id, n: fails(Busy("429", wait=0.3)) if played.tries == {"0": 1} else 0.0, concurrency=1)
    begin = time.monotonic()
    played.run(5)
    assert [round(sent - begin, 1) >= 0.3 for sent in played.sent] == [False] + [True] * 5


def test_a_server_that_asks_to_wait_too_long_ends_the_asking():
    played = Played(lambda id, n: fails(Busy("429", wait=86400.0)), concurrency=2)
    with pytest.raises(SelfevoError, match=r"server: 429, and asks to wait 86400 s \(at most 300 s are waited\)"):
        played.run(5)


def test_a_question_has_so_many_tries_and_is_then_counted_as_not_answered():
    played = Played(lambda id, n: fails(Broken("500")) if id == "3" else 0.0, retries=2)
    asking = played.run(10)
    assert played.failed == {"3": "500, at the last of 3 tries"}
    assert (asking.done, asking.failed, played.tries["3"]) == (9, 1, 3)


def test_a_refused_question_is_not_asked_again():
    played = Played(lambda id, n: fails(Refused("400")) if id in "3456789" else 0.0, concurrency=1, give_up=2)
    played.run(12)
    assert set(played.failed) == set("3456789")
    assert set(played.tries.values()) == {1}


def test_a_server_that_answers_nothing_any_more_ends_the_asking_after_a_few_questions():
    played = Played(lambda id, n: fails(Broken("500")) if int(id) >= 5 else 0.0, concurrency=2, retries=1, give_up=3)
    with pytest.raises(SelfevoError, match="3 questions in a row were not answered"):
        played.run(1000)
    assert len(played.tries) < 20
    assert len(played.answered) == 5


def test_a_server_that_never_answers_ends_the_asking_with_few_questions_too():
    played = Played(lambda id, n: fails(Refused("400")))
    with pytest.raises(SelfevoError, match="2 questions in a row were not answered"):
        played.run(2)


def test_questions_that_a_server_refuses_do_not_end_an_asking_that_goes_on_with_them_alone():
    played = Played(lambda id, n: fails(Refused("400")))
    assert played.run(12, before=3).failed == 12


def test_a_try_that_takes_too_long_is_broken_off():
    played = Played(lambda id, n: 30.0 if (id, n) == ("1", 1) else 0.0, answer_seconds=0.1)
    begin = time.monotonic()
    played.run(3)
    assert played.tries["1"] == 2
    assert time.monotonic() - begin < 5


def test_an_answer_that_comes_with_the_error_that_ends_the_asking_is_kept():
    kept: list[str] = []

    async def main() -> None:
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, gate.set)

        async def ask(question: Q) -> str:
            await gate.wait()  # both end in one turn of the loop, the failure first
            return fails(ZeroDivisionError()) if question.id == "0" else question.id

        asking: Asking = Asking("server", ask, Pace(**QUICK), lambda q, a: kept.append(a), lambda q, why: None)
        await asking.run([Q("0"), Q("1")])

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert kept == ["1"]


def test_an_error_of_another_kind_ends_the_asking_and_leaves_nothing_running():
    played = Played(lambda id, n: fails(ZeroDivisionError()) if id == "1" else 10.0, concurrency=4)
    with pytest.raises(ZeroDivisionError):
        played.run(6)
    assert played.at_once == 0


def test_a_question_that_is_not_admitted_waits_for_another_to_end_and_is_left_where_none_may_be_asked():
    """Three may be on their way or answered at once; an answer makes room for one more, up to six."""
    played = Played(lambda id, n: fails(Broken("500")) if n == 1 else 0.002)
    answered = played.answered

    def admits(question):
        return len(played.tries) < min(3 + len(answered), 6) and int(question.id) == len(played.tries)

    asking = Asking("server", played.ask, played.pace, lambda q, a: answered.append(a), lambda *_: None, admits=admits)
    asyncio.run(asking.run([Q(str(i)) for i in range(10)]))
    assert sorted(answered) == [str(i) for i in range(6)]
    assert set(played.tries) == set(answered)


def test_a_server_that_was_never_reached_is_given_up_soon_with_the_cause_and_one_that_was_there_is_waited_for():
    def none_listens(id, n):
        fails(Unreached("the connection failed (Connection refused)"))

    played = Played(none_listens, reach=3)
    with pytest.raises(SelfevoError, match=r"\(Connection refused\) at each of 4 tries, and nothing has answered"):
        played.run(5)
    assert max(played.tries.values()) == 4
    # a try that came to nothing in its time is no sign of a server
    slow_names = Played(lambda id, n: 1.0 if n == 1 else none_listens(id, n), reach=3, answer_seconds=0.02)
    with pytest.raises(SelfevoError, match="nothing has answered there yet"):
        slow_names.run(5)
    played = Played(lambda id, n: 0.0 if (id, n) == ("0", 1) or n > 6 else none_listens(id, n), reach=3)
    assert played.run(5).done == 5
    played = Played(lambda id, n: 0.0 if n > 6 else none_listens(id, n), reach=3)
    assert played.run(2, before=1).done == 2
