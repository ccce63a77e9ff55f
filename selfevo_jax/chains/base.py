"""Chains as generators: each yields the request for its next text, and receives what was drawn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from selfevo_jax.chains.trace import CUT
from selfevo_jax.sample import Completion, Request, SamplingParams

Result = TypeVar("Result")
Turns = Generator[Request, Completion, Result]
"""Yields requests, receives completions, and returns what became of the chain."""


class ChainFormat(Protocol):
    """What a chain needs of a prompt format (see selfevo_jax.text.PromptFormat): append-only token lists."""

    def respond(self, prompt: str) -> list[int]: ...

    def judge(self, so_far: Sequence[int]) -> list[int]: ...

    def refine(self, so_far: Sequence[int]) -> list[int]: ...


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

    def next(self, last: Completion | None) -> Request | None:
        """The next request, made from the completion of the one before (None at first); None at the end."""
        try:
            return next(self._turns) if last is None else self._turns.send(last)
        except StopIteration as end:
            self.result = end.value
            return None


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
