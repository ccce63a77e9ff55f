"""What goes into the engine and what comes out: requests, completions, and chains of them."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from selfevo_jax.sample.params import SamplingParams

Finish = Literal["stop", "stop_string", "cut", "length", "cache", "error"]
"""Why a completion ended: a stop id, a stop string, its own end with what ran on behind it cut off (by a chain), its
max_new_tokens, the cache's end, or a fault of its request."""


@dataclass(frozen=True)
class DrawKey:
    """What the random draws of a completion depend on, beside the engine's seed."""

    round: int = 0
    stage: str = "respond"
    prompt_id: str = ""
    sample: int = 0

    def __str__(self) -> str:
        """How messages name the row."""
        return f"prompt '{self.prompt_id}' (round {self.round}, stage {self.stage}, sample {self.sample})"


@dataclass(frozen=True)
class Request:
    """Continue `tokens`: the full list, BOS included; whatever of it lies in the slot's cache is not computed again."""

    tokens: tuple[int, ...]
    params: SamplingParams = SamplingParams()
    key: DrawKey = DrawKey()
    forced: int | None = None
    """The first token, in place of a draw: the completion begins with it, and says how probable the model finds it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))


@dataclass(frozen=True)
class Completion:
    """What the model wrote.

    `tokens` holds no stop id and ends before a stop string; `text` is its text in whole characters (half a character
    at the end is left out); `logprobs` are natural logarithms, one a token, of the untempered model distribution.
    Where a stop string begins inside a token, `text` keeps that token's first characters and `tokens` does not.
    """

    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finish: Finish
    error: str | None = None
    end: tuple[int, ...] = ()
    """What was drawn behind `tokens` and ended the text: the stop id, or the tokens that hold the stop string, of which
    the first and the last may hold other text too; none at a limit or behind a cut."""
    end_logprobs: tuple[float, ...] = ()
    """Of `end`, one a token."""

    @property
    def scores(self) -> tuple[float, ...]:
        """Log-probabilities of all that was drawn."""
        return (*self.logprobs, *self.end_logprobs)

    @property
    def finished(self) -> bool:
        """Whether the text came to its own end, rather than to a limit or a fault."""
        return is_whole(self.finish)


def is_whole(finish: str) -> bool:
    """Whether a text of this finish came to its own end."""
    return finish in ("stop", "stop_string", "cut")


def failed(message: str) -> Completion:
    """The completion of a request that could not be run."""
    return Completion(tokens=(), text="", logprobs=(), finish="error", error=message)


class Chain(Protocol):
    """A sequence of requests that keeps one slot, each made from the completion of the one before.

    The engine reuses the longest common prefix of the next request and the slot's cache, so that appending,
    rolling back and forking need no words of their own.
    """

    @property
    def id(self) -> str:
        """A name for messages and records."""
        ...

    def next(self, last: Completion | None) -> Request | None:
        """The next request (`last` is None at first), or None when the chain has ended."""
        ...


@dataclass
class Single:
    """The chain of one request; `completion` is set when it has ended."""

    id: str
    request: Request
    completion: Completion | None = None

    def next(self, last: Completion | None) -> Request | None:
        self.completion = last
        return self.request if last is None else None


def request_problem(
    request: Request, vocab_size: int, cache_length: int, drawable: np.ndarray | None = None
) -> str | None:
    """Why a request cannot be run, naming the row, what was found and the remedy; None when it can.

    A prompt of exactly cache_length tokens passes: its one next token needs no room.
    """
    n = len(request.tokens)
    if n == 0:
        return f"{request.key}: the prompt is empty (0 tokens); give it at least one token, such as BOS"
    if n > cache_length:
        return (
            f"{request.key}: the prompt has {n} tokens but the cache holds {cache_length}; "
            "shorten the prompt or raise cache_length"
        )
    low, high = min(request.tokens), max(request.tokens)
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        return f"{request.key}: token id {wrong} is outside the vocabulary of {vocab_size} tokens"
    if request.forced is not None and not 0 <= request.forced < vocab_size:
        return f"{request.key}: forced token id {request.forced} is outside the vocabulary of {vocab_size} tokens"
    found = request.params.problem(vocab_size)
    if found is None and drawable is not None:
        silent = [stop for stop in request.params.stop_ids if not drawable[stop]]
        found = f"stop id {silent[0]} has no token in the tokenizer, so it is never drawn" if silent else None
        if found is None and request.forced is not None and not drawable[request.forced]:
            found = f"forced token id {request.forced} has no token in the tokenizer, so it has no probability"
    return None if found is None else f"{request.key}: {found}"
