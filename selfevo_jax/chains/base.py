"""Chains as generators: each yields the request for its next text, and receives what was drawn.

A chain that yields a list fans out: each request of it is run, and what was drawn comes back in their order. They are
run one after the other in the chain's own slot, whose cache keeps the text that they have in common, so that a branch
costs what it adds; meanwhile the other slots draw for other chains. Branches side by side would have to wait for slots,
copy that text into each, and hold up their chain until all have come.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from selfevo_jax.chains.trace import CUT
from selfevo_jax.errors import SelfevoError
from selfevo_jax.sample import Completion, Request, SamplingParams

Result = TypeVar("Result")
Turns = Generator[Request | Sequence[Request], Any, Result]
"""Yields a request and receives its completion, or yields several and receives a list of theirs; returns what became of
the chain."""


class ChainFormat(Protocol):
    """What a chain needs of a prompt format (see selfevo_jax.text.PromptFormat): append-only token lists."""

    def respond(self, prompt: str) -> list[int]: ...

    def judge(self, so_far: Sequence[int], text: str | None = None) -> list[int]: ...

    def refine(self, so_far: Sequence[int]) -> list[int]: ...

    def continuation(self, so_far: Sequence[int], text: str) -> list[int]: ...


@dataclass(frozen=True)
class StageParams:
    """Sampling settings of each stage; raises ConfigError on settings that cannot be used."""

    respond: SamplingParams
    feedback: SamplingParams
    refine: SamplingParams

    def __post_init__(self) -> None:
        for params in (self.respond, self.feedback, self.refine):
            params.validated()


class Generated(Generic[Result]):
    """A chain for the engine, made of a generator. All of its requests keep one slot: a request that goes on from the
    text of the one before costs only what it adds."""

    def __init__(self, id: str, turns: Turns[Result]) -> None:
        self.id = id
        self.result: Result | None = None
        """What the generator returned; None until the chain has ended."""
        self._turns = turns
        self._left = deque[Request]()
        self._drawn: list[Completion] = []
        self._joined = False

    def next(self, last: Completion | None) -> Request | None:
        """The next request, made from the completions before (None at first); None at the end.

        Raises SelfevoError where two requests of a list have one draw key: they would draw the same.
        """
        given: Any = last
        if last is not None:
            self._drawn.append(last)
            given = self._drawn if self._joined else last
        while not self._left:
            try:
                asked = self._turns.send(given)
            except StopIteration as end:
                self.result = end.value
                return None
            self._joined = not isinstance(asked, Request)
            self._left.extend([asked] if isinstance(asked, Request) else _apart(self.id, asked))
            self._drawn = given = []
        return self._left.popleft()


def _apart(id: str, asked: Sequence[Request]) -> Sequence[Request]:
    keys = [request.key for request in asked if request.forced is None]
    if len(set(keys)) < len(keys):
        same = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise SelfevoError(f"chain {id}: two requests of one list are {same}, and would draw the same; name each stage")
    return asked


def until(last: Completion, end: int, decode: Callable[[Sequence[int]], str]) -> Completion:
    """What stands before character `end` of a completion, in text, tokens and log-probabilities; the completion itself
    where only white space stands behind.

    A token across the end is kept where it holds but white space behind it: the end of the text would go with it.
    """
    if not last.text[end:].strip():
        return last
    tokens, kept = last.tokens, last.text[:end]

    def size(n: int) -> int:
        return len(decode(tokens[:n]))

    counts = range(len(tokens) + 1)
    n = bisect_left(counts, len(kept), key=size)  # the text grows with the tokens
    if n and decode(tokens[:n])[len(kept) :].strip():
        # the least of those with the same text: the others end in the first bytes of a character
        n = bisect_left(counts[:n], size(n - 1), key=size)
    return Completion(tokens[:n], kept, last.logprobs[:n], CUT)
