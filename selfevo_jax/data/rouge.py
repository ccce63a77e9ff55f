"""ROUGE-L of token lists, and which of many texts a new one is too much like.

Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004): the F-measure of the longest common
subsequence. On ASCII text tokens and figures are those of the `rouge-score` package without its stemmer.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def rouge_tokens(text: str) -> list[str]:
    """Runs of letters and digits in lower case; a letter by itself in scripts that put no space between words."""
    return _TOKEN.findall(text.lower())


def lcs_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, one word of bits at a time.

    Source: Hyyrö, "Bit-parallel LCS-length computation revisited" (2004).
    """
    places: dict[str, int] = {}
    for at, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << at
    whole = (1 << len(one)) - 1
    row = whole
    for token in other:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & whole
    return len(one) - row.bit_count()


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F-measure, 2 LCS / (m + n): 1 for equal texts, 0 for an empty one."""
    total = len(one) + len(other)
    return 2 * lcs_length(one, other) / total if total else 0.0


class RougeIndex:
    """Texts that a new one is compared with, each time with all of them.

    The tokens that two texts share, whatever their order, are at least as many as their longest common subsequence, and
    are counted for all texts at once; only where they would be enough is the subsequence itself looked for.
    """

    def __init__(self) -> None:
        self._texts: list[list[str]] = []
        self._lengths = array("i")
        self._where: dict[str, tuple[array[int], array[int]]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, tokens: Sequence[str]) -> None:
        """One more text, whose number is how many there were before."""
        number = len(self._texts)
        self._texts.append(list(tokens))
        self._lengths.append(len(tokens))
        for token, count in Counter(tokens).items():
            texts, counts = self._where.setdefault(token, (array("i"), array("i")))
            texts.append(number)
            counts.append(count)

    def nearest(self, tokens: Sequence[str], above: float) -> tuple[int, float] | None:
        """The text most like this one (the first of equals), and its ROUGE-L; None where none is above `above`."""
        shared, best = self._shared(tokens), None
        enough = np.flatnonzero(2 * shared > above * (len(tokens) + self._sizes()))
        for number in enough.tolist():
            score = rouge_l(tokens, self._texts[number])
            if score > above and (best is None or score > best[1]):
                best = number, score
        return best

    def around(self, tokens: Sequence[str], least: int) -> int | None:
        """A text that this one holds, word for word, or that holds this one; the shorter has `least` tokens or more."""
        shared, sizes = self._shared(tokens), self._sizes()
        shorter = np.minimum(sizes, len(tokens))
        this = f" {' '.join(tokens)} "
        for number in np.flatnonzero((shared == shorter) & (shorter >= least)).tolist():
            that = f" {' '.join(self._texts[number])} "
            if this in that or that in this:
                return int(number)
        return None

    def _sizes(self) -> np.ndarray:
        return np.array(self._lengths, np.int64)

    def _shared(self, tokens: Sequence[str]) -> np.ndarray:
        """For each text how many tokens it shares with this one, as bags."""
        shared = np.zeros(len(self._texts), np.int64)
        for token, count in Counter(tokens).items():
            if (found := self._where.get(token)) is not None:
                texts, counts = (np.frombuffer(part, np.int32) for part in found)
                shared[texts] += np.minimum(counts, count)
        return shared
