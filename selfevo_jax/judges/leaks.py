"""What belongs to feedback, and so to no answer: the words that ask for it and for the refinement, and its verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selfevo_jax.judges.base import ChainJudge
from selfevo_jax.text import FormatSection

WORDS = 5
"""Words of an instruction in a row that are no accident."""


@dataclass(frozen=True)
class Leaks:
    """Looks for feedback in direct answers, by a run's own format and judge.

    An answer has leaked feedback where there is in it, and not in its prompt,

    - WORDS words in a row of the instruction for feedback or for the refinement (`format.judge`, `format.refine`, and
      what the judge asks in its own words), whatever their case and punctuation; or
    - what the judge's verdict begins with (`ChainJudge.marks`, as "Verdict:"), as words of their own; or
    - an instruction of fewer words ("Feedback:", "Check the answer."), at the beginning of a line or sentence. One that
      does not end in a colon or as a sentence does has to be a line of its own.

    What a task cuts off behind an answer is not in it any more.
    """

    grams: frozenset[tuple[str, ...]]
    """Words in a row, in small letters."""
    marks: tuple[str, ...]
    short: tuple[str, ...]
    """Instructions of fewer words."""

    @classmethod
    def of(cls, judge: ChainJudge, format: FormatSection) -> Leaks:
        """`format`: with all its texts (`FormatSection.filled`)."""
        asked = [text for text in (format.judge, format.refine, *judge.asks) if text is not None]
        short = [text.strip() for text in asked if len(_words(text)) < WORDS]
        grams = frozenset(gram for text in asked for gram in _grams(text))
        return cls(grams, tuple(judge.marks), tuple(dict.fromkeys(short)))

    def found(self, text: str, prompt: str) -> str | None:
        """The first words of feedback that are in a text, and not in the prompt that it answers; None where there are
        none."""
        asked = prompt.casefold()
        sought = [*((mark, _anywhere(mark)) for mark in self.marks), *((asks, _first(asks)) for asks in self.short)]
        for words, pattern in sought:
            if words.casefold() not in asked and re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
                return words
        known = frozenset(_grams(prompt))
        gram = next((gram for gram in _grams(text) if gram in self.grams and gram not in known), None)
        return None if gram is None else " ".join(gram)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    words = _words(text)
    return (tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


def _anywhere(mark: str) -> str:
    return rf"(?<!\w){re.escape(mark)}"


def _first(text: str) -> str:
    alone = "" if text.endswith((":", ".", "!", "?")) else r"[ \t]*$"
    return rf"(?:^[ \t#>*_\-]*|[.!?][ \t*_]+){re.escape(text)}{alone}"
