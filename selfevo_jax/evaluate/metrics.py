"""Counts into figures with their standard errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Proportion:
    """A share of `n` rows and its standard error, sqrt(p (1 - p) / n); both None when there are no rows."""

    share: float | None
    stderr: float | None
    n: int

    def __str__(self) -> str:
        if self.share is None or self.stderr is None:
            return "-"
        return f"{100 * self.share:.1f} ± {100 * self.stderr:.1f} %"


def proportion(hits: Sequence[bool]) -> Proportion:
    if not hits:
        return Proportion(None, None, 0)
    share = sum(hits) / len(hits)
    return Proportion(share, math.sqrt(share * (1 - share) / len(hits)), len(hits))


@dataclass(frozen=True)
class VerdictQuality:
    """How the verdict `good` agrees with being right. Unparseable verdicts count as wrong in accuracy alone."""

    accuracy: Proportion
    precision: Proportion
    """Of the answers judged good, the share that is right."""
    recall: Proportion
    """Of the right answers, the share that is judged good."""
    unparseable: int


def verdict_quality(verdicts: Sequence[bool | None], right: Sequence[bool]) -> VerdictQuality:
    pairs = list(zip(verdicts, right, strict=True))
    return VerdictQuality(
        accuracy=proportion([verdict is not None and verdict == truth for verdict, truth in pairs]),
        precision=proportion([truth for verdict, truth in pairs if verdict]),
        recall=proportion([bool(verdict) for verdict, truth in pairs if truth]),
        unparseable=sum(verdict is None for verdict, _ in pairs),
    )


def majority(answers: Sequence[T | None]) -> T | None:
    """The most frequent answer; of equally frequent ones the first met; None when there is no answer."""
    counts = Counter(answer for answer in answers if answer is not None)
    return counts.most_common(1)[0][0] if counts else None


def distinct_ngrams(texts: Sequence[str], n: int = 2) -> float | None:
    """Distinct n-grams of words over all n-grams: falls when the texts collapse. None without n-grams."""
    grams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def entropy(texts: Sequence[str]) -> float | None:
    """Entropy of the texts' words in bits: falls when the texts collapse. None without words."""
    counts = Counter(word for text in texts for word in text.split())
    total = sum(counts.values())
    if not total:
        return None
    return -sum(count / total * math.log2(count / total) for count in counts.values())
