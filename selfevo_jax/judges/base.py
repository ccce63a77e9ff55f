"""The seam between a chain and what it believes of its answers."""

from __future__ import annotations

from typing import Protocol


class Judged(Protocol):
    """What is read from feedback."""

    @property
    def good(self) -> bool | None:
        """None: it cannot be read, which is never a score."""
        ...

    @property
    def rating(self) -> float | None: ...

    @property
    def end(self) -> int | None:
        """Where the feedback ends and something else runs on; None where nothing does."""
        ...


class ChainJudge(Protocol):
    """A judge whose feedback is a turn of the chain, in the model's own words."""

    @property
    def name(self) -> str: ...

    @property
    def instruction(self) -> str | None:
        """What asks for the feedback where the config has no text of its own and the format is a chat; None: what the
        format asks by default."""
        ...

    def read(self, feedback: str) -> Judged:
        """What feedback says of the answer before it."""
        ...

    def bare(self, feedback: str, good: bool) -> str:
        """Written feedback without its words: the verdict, or the rating, alone."""
        ...
