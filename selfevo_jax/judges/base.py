"""The seam between a chain and what it believes of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Judged(Protocol):
    """What is read from feedback."""

    @property
    def good(self) -> bool | None:
        """None: it cannot be read, which is never a score."""
        ...

    @property
    def rating(self) -> float | None:
        """A score, where there is one: the higher the better."""
        ...

    @property
    def end(self) -> int | None:
        """Where the feedback ends and something else runs on; None where nothing does."""
        ...


class Weighed(Protocol):
    """Two words, one of which stands at some place of the feedback: the model is asked how probable it finds each."""

    @property
    def good(self) -> str: ...
    @property
    def bad(self) -> str: ...
    @property
    def lead(self) -> str:
        """What stands before the word, in feedback as it should be."""
        ...

    def place(self, feedback: str) -> int | None:
        """The character behind which the word stands, or would; None where feedback has no such place."""
        ...

    def weighed(self, good: float, bad: float) -> Judged:
        """What the log-probabilities of the two words say."""
        ...


class ChainJudge(Protocol):
    """A judge whose feedback is a turn of the chain, in the model's own words. One that asks for one text and reads it
    needs `name`, `read` and `bare`; what else is here is inherited."""

    @property
    def name(self) -> str: ...

    @property
    def instruction(self) -> str | None:
        """What asks for the feedback where the config has no text of its own and the format is a chat; None: what the
        format asks by default."""
        return None

    @property
    def asks(self) -> Sequence[str | None]:
        """What asks for each text of feedback on one answer; None: what the format asks."""
        return (None,)

    @property
    def weighs(self) -> Weighed | None:
        """Where the judgement is how probable the model finds two words, and not which of them it wrote."""
        return None

    def read(self, feedback: str) -> Judged:
        """What one text of feedback says of the answer before it."""
        ...

    def joined(self, read: Sequence[Judged]) -> Judged:
        """What the texts of feedback on one answer say together."""
        (one,) = read
        return one

    def bare(self, feedback: str, good: bool) -> str:
        """Written feedback without its words: the verdict, or the rating, alone."""
        ...


def passes(score: float, least: float | None) -> bool:
    """Whether a score from 0 to 1 is good: `least` or more; with None more than half."""
    return score > 0.5 if least is None else score >= least
