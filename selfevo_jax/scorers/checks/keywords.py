"""Instructions on words and letters: which must come, which must not, how often. Words are regular expressions."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from selfevo_jax.scorers.checks.base import CHARACTER, COUNT, PATTERN, PATTERNS, RELATION, Kind, holds


def existence(text: str, keywords: Sequence[str]) -> bool:
    """Each keyword comes somewhere, in any case, inside a longer word too."""
    return all(re.search(word, text, re.IGNORECASE) for word in keywords)


def frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    """The keyword comes so often, in any case, inside longer words too."""
    return holds(relation, len(re.findall(keyword.strip(), text, re.IGNORECASE)), frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words comes as a whole word, in any case."""
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool | None:
    """The letter comes so often, in either case. None for a character that is not a to z: IFEval's own code puts a
    letter drawn at random in its place, so that there is no answer to be equal to."""
    letter = letter.lower()
    if letter not in string.ascii_lowercase:
        return None
    return holds(let_relation, text.lower().count(letter), let_frequency)


KINDS = (
    Kind("keywords:existence", existence, {"keywords": PATTERNS}),
    Kind("keywords:frequency", frequency, {"keyword": PATTERN, "frequency": COUNT, "relation": RELATION}),
    Kind("keywords:forbidden_words", forbidden_words, {"forbidden_words": PATTERNS}),
    Kind(
        "keywords:letter_frequency",
        letter_frequency,
        {"letter": CHARACTER, "let_frequency": COUNT, "let_relation": RELATION},
    ),
)
