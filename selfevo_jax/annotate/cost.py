"""What an annotation costs: tokens as the server counts them, and a limit that no question may pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from selfevo_jax.errors import SelfevoError
from selfevo_jax.judges.endpoint import Answer, Question

_MILLION = 1e6
_ROUND_A_MESSAGE = 64
"""Tokens at most that a chat template puts around a message, or before all of them."""


@dataclass(frozen=True)
class Price:
    """Of a million tokens."""

    read: float
    written: float

    def of(self, read: int, written: int) -> float:
        return (self.read * read + self.written * written) / _MILLION


def most_tokens(question: Question) -> int:
    """Tokens of a question at most: no tokenizer in use makes more of them than there are bytes."""
    return sum(len(m["content"].encode("utf-8", "replace")) + _ROUND_A_MESSAGE for m in question.messages)


@dataclass
class Ledger:
    """Every answer of an annotation that was ever given, each once, whether or not it could be used."""

    max_cost: float | None = None
    read: int = 0
    written: int = 0
    cost: float = 0.0
    answers: int = 0
    unpriced: int = 0
    """Answers of a model whose price is not known."""
    uncounted: int = 0
    """Answers that came without the server's `usage`: what they cost is not known."""
    refused: int = 0
    """Questions that were not asked, since they could take the cost past its limit."""
    set_aside: float = 0.0
    """What the questions on their way can cost at most."""

    def __post_init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, id: str, read: int, written: int, price: Price | None) -> None:
        if id in self._seen:
            return
        self._seen.add(id)
        self.answers, self.read, self.written = self.answers + 1, self.read + read, self.written + written
        self.uncounted += not read + written
        if price is None:
            self.unpriced += 1
        else:
            self.cost += price.of(read, written)

    def add_kept(self, rows: Iterable[Mapping[str, Any]], price: Price | None) -> None:
        """Answers of earlier calls."""
        for row in rows:
            self.add(row["id"], row.get("prompt_tokens", 0), row.get("completion_tokens", 0), price)

    @property
    def known(self) -> bool:
        """Whether the cost is that of all answers."""
        return not self.unpriced and not self.uncounted


class Purse:
    """What limits the questions to one model (see `judges.endpoint.Purse`)."""

    def __init__(self, ledger: Ledger, price: Price | None, max_tokens: int) -> None:
        self._ledger, self._price, self._max_tokens = ledger, price, max_tokens
        self._aside: dict[str, float] = {}

    @property
    def note(self) -> str:
        return "" if self._price is None else f"cost {self._ledger.cost:.4f}"

    @property
    def refusal(self) -> str:
        return f"not asked: it could take the cost past {self._ledger.max_cost or 0.0:g}"

    def admits(self, question: Question) -> bool:
        if self._price is None or self._ledger.max_cost is None:
            return True
        most = self._price.of(most_tokens(question), self._max_tokens)
        if self._ledger.cost + self._ledger.set_aside + most > self._ledger.max_cost:
            return False
        self._aside[question.id] = most
        self._ledger.set_aside += most
        return True

    def settle(self, question: Question, answer: Answer | None) -> None:
        self._ledger.set_aside -= self._aside.pop(question.id, 0.0)
        if answer is None:
            return
        self._ledger.add(answer.id, answer.prompt_tokens, answer.completion_tokens, self._price)
        if self._ledger.max_cost is not None and self._ledger.uncounted:
            raise SelfevoError(
                "the server does not say how many tokens an answer has (`usage`), so what it costs is not known; leave "
                "--max-cost out, and run the same command again"
            )
