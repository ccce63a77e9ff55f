"""Instructions on length: words, sentences and paragraphs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from selfevo_jax.scorers.checks.base import COUNT, RELATION, TEXT, Kind, holds
from selfevo_jax.scorers.checks.tokens import sentences, without_sentences


def words(text: str) -> list[str]:
    """Runs of letters, digits and '_'."""
    return re.findall(r"\w+", text)


def number_words(text: str, num_words: int, relation: str) -> bool:
    return holds(relation, len(words(text)), num_words)


def number_sentences(text: str, num_sentences: int, relation: str) -> bool | None:
    found = sentences(text)
    return None if found is None else holds(relation, len(found), num_sentences)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """So many paragraphs with '***' between them; an empty one counts for nothing at either end, and is a fault
    between others."""
    first, *rest = re.split(r"\s?\*\*\*\s?", text)
    if not rest:
        return bool(first.strip()) and num_paragraphs == 1
    *inner, last = rest
    if not all(paragraph.strip() for paragraph in inner):
        return False
    return len(inner) + bool(first.strip()) + bool(last.strip()) == num_paragraphs


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """So many paragraphs that are not empty, an empty line between them, of which the nth (empty ones counted) begins
    with the word, in any case."""
    paragraphs = text.split("\n\n")
    filled = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > filled:
        return False
    begins = paragraphs[nth_paragraph - 1].split()
    if not begins:
        return False
    word = re.split("[.,?!'\"]", begins[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return filled == num_paragraphs and "".join(map(str.lower, word)) == first_word.lower()


def _beyond(arguments: Mapping[str, Any]) -> str | None:
    nth, number = arguments["nth_paragraph"], arguments["num_paragraphs"]
    return None if 1 <= nth <= number else f"nth_paragraph: found {nth}, expected from 1 to num_paragraphs, {number}"


KINDS = (
    Kind("length_constraints:number_words", number_words, {"num_words": COUNT, "relation": RELATION}),
    Kind(
        "length_constraints:number_sentences",
        number_sentences,
        {"num_sentences": COUNT, "relation": RELATION},
        missing=without_sentences,
    ),
    Kind("length_constraints:number_paragraphs", number_paragraphs, {"num_paragraphs": COUNT}),
    Kind(
        "length_constraints:nth_paragraph_first_word",
        nth_paragraph_first_word,
        {"num_paragraphs": COUNT, "nth_paragraph": COUNT, "first_word": TEXT},
        fault=_beyond,
    ),
)
