"""Sentences by NLTK's Punkt where it is there, and words in capitals with it or without.

IFEval counts sentences by Punkt, whose English parameters are data of their own, and counts words in capitals by NLTK's
word tokenizer on Punkt's sentences. Where a sentence ends changes that count in few texts ("I CAN'T." is two words in
capitals more at the end of a sentence, one within): without Punkt both counts are taken.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from selfevo_jax.lazy import install


@functools.lru_cache
def _punkt() -> Any | None:
    try:
        from nltk.tokenize.punkt import PunktTokenizer
    except ImportError:
        return None
    try:
        return PunktTokenizer("english")
    except LookupError:
        return None


def without_sentences() -> str | None:
    """What is missing to count sentences; None where nothing is."""
    if _punkt() is not None:
        return None
    return f"NLTK's English Punkt ({install('ifeval')} && python -m nltk.downloader punkt_tab)"


def sentences(text: str) -> list[str] | None:
    """The sentences of an English text; None without Punkt."""
    punkt = _punkt()
    return None if punkt is None else punkt.tokenize(text)


_APART: tuple[tuple[str, str], ...] = (
    # quotation marks that open
    ("[«“‘„]|[`]+", r" \g<0> "),
    (r"^\"", "``"),
    ("``", " `` "),
    (r"([ ([{<])(?:\"|'')", r"\1 `` "),
    (r"(?i)'(?!re|ve|ll|m|t|s|d|n)(\w)\b", r"' \1"),
    # punctuation; a point is apart at the end of a sentence alone
    (r"([^.])\.([])}>\"' »”’]*)\s*$", r"\1 . \2 "),
    (r"([:,])([^\d])", r" \1 \2"),
    (r"[:,]$", r" \g<0> "),
    (r"\.{2,}", " .. "),
    ("[;@#$%&\u2012-\u2015]", " ; "),
    (r"([^.])\.([])}>\"']*)\s*$", r"\1 . \2 "),
    ("[?!]", " ? "),
    (r"([^'])' ", r"\1 ' "),
    (r"[*]", " * "),
    (r"[][(){}<>]", " ( "),
    ("--", " -- "),
    (r"\A|\Z", " "),
    # quotation marks that close, and what is drawn together
    ("[»”’]", r" \g<0> "),
    ("''|\"", " '' "),
    (r"\s+", " "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
    (r"(?i)\b(can)(not)\b", r" \1 \2 "),
    (r"(?i)\b(d)('ye)\b", r" \1 \2 "),
    (r"(?i)\b(gim)(me)\b", r" \1 \2 "),
    (r"(?i)\b(gon)(na)\b", r" \1 \2 "),
    (r"(?i)\b(got)(ta)\b", r" \1 \2 "),
    (r"(?i)\b(lem)(me)\b", r" \1 \2 "),
    (r"(?i)\b(more)('n)\b", r" \1 \2 "),
    (r"(?i)\b(wan)(na)(?=\s)", r" \1 \2 "),
    (r"(?i) ('t)(is)\b", r" \1 \2 "),
    (r"(?i) ('t)(was)\b", r" \1 \2 "),
)
"""The Penn Treebank's rules for words (R. MacIntyre's script) as NLTK 3.9 has them, in their order."""
_RULES = tuple((re.compile(pattern), apart) for pattern, apart in _APART)
_MAY_END = re.compile(r"(?<=[.?!])(?=[)\";}\]*:@'({\[!?])")
"""Where Punkt may end a sentence within what white space does not divide."""
_ENDS = re.compile(r"[.?!][])}>\"';:*@!?({\[]*\Z")


def _capitals(sentence: str) -> int:
    for pattern, apart in _RULES:
        sentence = pattern.sub(apart, sentence)
    return sum(word.isupper() for word in sentence.split())


def capital_words(text: str) -> tuple[int, int]:
    """The fewest and the most words in capitals that the text may have, by where its sentences end; one number, twice,
    where Punkt tells."""
    found = sentences(text)
    if found is not None:
        count = sum(map(_capitals, found))
        return count, count
    fewest = most = 0
    pieces = text.split()
    for place, piece in enumerate(pieces, 1):
        within, last = _capitals(f"a {piece} a"), _capitals(f"a {piece}")
        counts = {last} if place == len(pieces) else {within, last} if _ENDS.search(piece) else {within}
        if len(parts := _MAY_END.split(piece)) > 1:
            counts.add(sum(map(_capitals, parts)))
        fewest, most = fewest + min(counts), most + max(counts)
    return fewest, most
