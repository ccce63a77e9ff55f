"""Many questions to a server that may be slow, busy or broken: which to send when, and when to give up.

Knows no protocol: who asks is a coroutine that says by its exception what may be done about a failure.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from selfevo_jax import notice
from selfevo_jax.errors import SelfevoError

MOST_WAIT = 60.0
"""Seconds between two tries of a question at most, unless the server says how long to wait."""
_FAILED_AT_ONCE = 2
"""Questions that wait for another try, for each one that may be on its way, above which no new one is begun."""
_LOOK_SECONDS = 1.0
"""Between looks at whether this process has been told to end."""


class Failed(Exception):
    """A question was not answered."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        """`wait`: seconds that the server asks to wait."""
        super().__init__(why)
        self.wait = wait


class Refused(Failed):
    """The server will not answer this question, however often it is asked."""


class Broken(Failed):
    """The server failed, or the connection did; the next try may do better."""


class Unreached(Broken):
    """There is no server, as far as can be seen."""


class Busy(Failed):
    """The server has too much to do: every question waits, and fewer are sent side by side from now on."""


class Named(Protocol):
    """A question."""

    @property
    def id(self) -> str: ...


Q = TypeVar("Q", bound=Named)
A = TypeVar("A")


@dataclass(frozen=True)
class Pace:
    """How hard to ask; the first four are settings of a server (see `server.EndpointSection`)."""

    concurrency: int
    retries: int
    answer_seconds: float
    """For one try, however slowly the answer drips in."""
    longest_wait_seconds: float
    first_wait: float = 0.5
    """Seconds before the second try, about; twice as long before each further one."""
    give_up: int = 8
    """Questions in a row that failed at every try, with no answer in between, after which the asking ends."""
    reach: int = 4
    """More tries of a question of a server that was never reached, after which the asking ends."""


class Asking(Generic[Q, A]):
    """One pass over questions. Nothing waits for a slow question but itself: a failed one waits outside of the slots.

    Args:
      name: of the server, for messages.
      ask: answers a question, or raises Failed; another exception ends the asking.
      on_answer: takes every answer as it comes.
      on_failure: takes a question that was not answered, and why.
      on_progress: called when something has changed.
      before: questions answered in earlier passes, by which it is known that the server does not refuse all.
      admits: whether a new question may be sent now; where it may not, it is asked about again when a try has ended.
        Questions that are never admitted are left unasked.
      reached: whether the server is known to have been there.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[Q], Awaitable[A]],
        pace: Pace,
        on_answer: Callable[[Q, A], None],
        on_failure: Callable[[Q, str], None],
        on_progress: Callable[[Asking[Q, A]], None] = lambda _: None,
        before: int = 0,
        admits: Callable[[Q], bool] = lambda _: True,
        reached: bool = False,
    ) -> None:
        self._name, self._ask, self._pace, self._admits = name, ask, pace, admits
        self._on_answer, self._on_failure, self._on_progress = on_answer, on_failure, on_progress
        self._fresh: deque[Q] = deque()
        self._later: list[tuple[float, int, int, Q]] = []
        self._running: dict[asyncio.Task[A], tuple[int, Q, float]] = {}
        self._hold = self._halved = 0.0
        self._refused = False
        """Whether the next new question was not admitted, since the last try ended."""
        self._steady = self._failures = self._order = 0
        self._before = before
        self._reached = reached or before > 0
        """Whether the server has answered anything, if only with a fault."""
        self.trouble = ""
        """Why a question was asked again, the last time."""
        self.limit = pace.concurrency
        """Questions that may be on their way now."""
        self.done = self.failed = self.retries = 0

    async def run(self, questions: Sequence[Q]) -> None:
        """Asks all that are admitted. Raises SelfevoError where the server answers nothing any more, or asks to wait
        too long."""
        self._fresh = deque(questions)
        try:
            while self._left():
                self._launch()
                # answers first: a failure may end the asking, and what has come is kept
                for task in sorted(await self._ended(), key=lambda task: task.exception() is not None):
                    self._take(task)
                notice.stop_if_given(f"while asking {self._name}")
        finally:
            left = list(self._running)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _left(self) -> bool:
        return bool(self._later or self._running or (self._fresh and not self._refused))

    def _launch(self) -> None:
        now = time.monotonic()
        while len(self._running) < self.limit and self._when() <= now:
            if self._later and self._later[0][0] <= now:
                _, _, tries, question = heapq.heappop(self._later)
            elif self._admits(self._fresh[0]):
                tries, question = 0, self._fresh.popleft()
            else:
                self._refused = True
                continue
            task = asyncio.ensure_future(asyncio.wait_for(self._ask(question), self._pace.answer_seconds))
            self._running[task] = tries, question, now

    def _when(self) -> float:
        """The time from which something may be sent. New questions wait while many failed ones do: of a server that is
        down little is asked."""
        open_to_new = len(self._later) < _FAILED_AT_ONCE * self._pace.concurrency and not self._refused
        if self._fresh and open_to_new:
            return self._hold
        return max(self._hold, self._later[0][0]) if self._later else math.inf

    async def _ended(self) -> set[asyncio.Task[A]]:
        """Waits until a try has ended, or until something may be sent."""
        if not self._left():
            return set()
        wait = _LOOK_SECONDS
        if len(self._running) < self.limit:
            wait = min(wait, self._when() - time.monotonic())
        if not self._running:
            await asyncio.sleep(max(wait, 0.0))
            return set()
        done, _ = await asyncio.wait(self._running, timeout=max(wait, 0.0), return_when=asyncio.FIRST_COMPLETED)
        return done

    def _take(self, task: asyncio.Task[A]) -> None:
        tries, question, begun = self._running.pop(task)
        self._refused = False  # what it was thought to cost may be less by now
        try:
            answer = task.result()
        except TimeoutError:  # nothing is known of the server
            self._again(tries, question, Broken(f"no answer within {self._pace.answer_seconds:g} s"))
        except Refused as failure:
            self._reached = True
            self._fail(question, str(failure), counts=self.done + self._before == 0)
        except Failed as failure:
            self._reached = self._reached or not isinstance(failure, Unreached)
            if isinstance(failure, Busy):
                self._slow_down(begun)
            self._again(tries, question, failure)
        else:
            self._reached = True
            self.done, self._failures, self._steady = self.done + 1, 0, self._steady + 1
            if self._steady >= self.limit and self.limit < self._pace.concurrency:
                self.limit, self._steady = self.limit + 1, 0
            self._on_answer(question, answer)
        self._on_progress(self)

    def _slow_down(self, begun: float) -> None:
        """Halves the questions side by side, once for all those that were sent before the server was found busy."""
        if begun >= self._halved:
            self.limit, self._steady, self._halved = max(1, self.limit // 2), 0, time.monotonic()

    def _again(self, tries: int, question: Q, failure: Failed) -> None:
        unreached = isinstance(failure, Unreached) and not self._reached
        if unreached and tries >= min(self._pace.reach, self._pace.retries):
            raise SelfevoError(
                f"{self._name}: {failure} at each of {tries + 1} tries, and nothing has answered there yet; start the "
                "server or correct its URL, and run the same command again, which asks only what is not answered yet"
            )
        if tries >= self._pace.retries:
            return self._fail(question, f"{failure}, at the last of {tries + 1} tries", counts=True)
        if failure.wait is not None and failure.wait > self._pace.longest_wait_seconds:
            raise SelfevoError(
                f"{self._name}: {failure}, and asks to wait {failure.wait:g} s (at most "
                f"{self._pace.longest_wait_seconds:g} s are waited); run the same command again later, which asks only "
                "what is not answered yet"
            )
        usual = min(MOST_WAIT, self._pace.first_wait * 2 ** min(tries, 16)) * random.uniform(0.5, 1.5)
        ready = time.monotonic() + (usual if failure.wait is None else failure.wait)
        if isinstance(failure, Busy):
            self._hold = max(self._hold, ready)
        self.retries, self._order, self.trouble = self.retries + 1, self._order + 1, str(failure)
        heapq.heappush(self._later, (ready, self._order, tries + 1, question))
        return None

    def _fail(self, question: Q, why: str, counts: bool) -> None:
        self.failed, self._failures = self.failed + 1, self._failures + counts
        self._on_failure(question, why)
        left = self._fresh or self._later or self._running
        if self._failures >= self._pace.give_up or (self._failures and not left and not self.done + self._before):
            raise SelfevoError(
                f"{self._name}: {self._failures} questions in a row were not answered ({why}); look at the server, and "
                "run the same command again, which asks only what is not answered yet"
            )
