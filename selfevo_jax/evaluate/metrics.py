"""Counts into figures with their intervals, and two checkpoints on the same rows compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


Z = 1.959963984540054
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Proportion:
    """A share of `n` rows with its Wilson interval of 95 %; all None when there are no rows."""

    share: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.share is None or self.low is None or self.high is None:
            return "-"
        return f"{100 * self.share:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}] %"


def wilson(hits: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share of `n` (above 0) rows; never of no width, as p +- 2 sqrt(p (1 - p) / n) is at 0.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927).
    """
    share, spread = hits / n, Z * Z / n
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def proportion(hits: Sequence[bool]) -> Proportion:
    """The share of hits."""
    if not hits:
        return Proportion(None, None, None, 0)
    return Proportion(sum(hits) / len(hits), *wilson(sum(hits), len(hits)), len(hits))


def of_clusters(rows: Sequence[Sequence[bool]]) -> Proportion:
    """The share of all hits, where several belong to one row and so do not vary by themselves.

    Wilson's interval is that of the effective number of hits: as many as would give, each by itself, the variance of
    the share over the rows; never more than there are, and one a row where all are equal, which tells nothing of it.
    Source: E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998), 193.
    """
    hits, n = sum(map(sum, rows)), sum(map(len, rows))
    if not n:
        return Proportion(None, None, None, 0)
    share = hits / n
    clusters = sum(map(bool, rows))
    spread = sum((sum(row) - share * len(row)) ** 2 for row in rows)
    effective = (
        float(clusters) if hits in (0, n) else min(float(n), share * (1 - share) * n * n / spread if spread else n)
    )
    return Proportion(share, *wilson(share * effective, effective), n)


SIGNIFICANT = 0.05
"""Two checkpoints differ measurably where McNemar's exact p is below this."""


@dataclass(frozen=True)
class Paired:
    """Two checkpoints (or modes) on the same rows."""

    n: int
    """Rows that both answered."""
    gained: int
    """Rows that were wrong before and are right after."""
    lost: int
    """Rows that were right before and are wrong after."""
    gain: float
    """Share right after, less the share right before."""
    stderr: float
    """Of the gain, by the differences of the rows (0 where every row changed alike, or none did: see p)."""
    p: float
    """McNemar's exact two-sided p: how likely so uneven a split of the changed rows is when both are equally good."""

    @property
    def better(self) -> bool:
        """Measurably."""
        return self.gain > 0 and self.p < SIGNIFICANT

    @property
    def worse(self) -> bool:
        """Measurably."""
        return self.gain < 0 and self.p < SIGNIFICANT


def paired(before: Mapping[str, bool | None], after: Mapping[str, bool | None]) -> Paired | None:
    """Compares row by row (row id -> right, None: not asked). None where no row was answered by both."""
    both = [(was, now) for row, was in before.items() if was is not None and (now := after.get(row)) is not None]
    if not both:
        return None
    n = len(both)
    gained, lost = sum(now and not was for was, now in both), sum(was and not now for was, now in both)
    gain = (gained - lost) / n
    stderr = math.sqrt((gained + lost) / n - gain * gain) / math.sqrt(n)
    return Paired(n, gained, lost, gain, stderr, mcnemar(gained, lost))


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of so uneven a split of the changed rows: binomial, 1/2 (McNemar, Psychometrika 12, 1947)."""
    n = gained + lost

    def chance(k: int) -> float:
        return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))

    return min(1.0, 2 * math.fsum(chance(k) for k in range(min(gained, lost) + 1)))


@dataclass(frozen=True)
class VerdictQuality:
    """How the verdict `good` agrees with being right. Verdicts that cannot be read are counted and in no share."""

    accuracy: Proportion
    """Of the verdicts that can be read, the share that is true."""
    precision: Proportion
    """Of the answers judged good, the share that is right."""
    recall: Proportion
    """Of the right answers with a verdict that can be read, the share that is judged good."""
    unparseable: int


def verdict_quality(verdicts: Sequence[bool | None], right: Sequence[bool]) -> VerdictQuality:
    """Verdicts (None: it cannot be read) beside whether each answer is right."""
    read = [(verdict, truth) for verdict, truth in zip(verdicts, right, strict=True) if verdict is not None]
    return VerdictQuality(
        accuracy=proportion([verdict == truth for verdict, truth in read]),
        precision=proportion([truth for verdict, truth in read if verdict]),
        recall=proportion([verdict for verdict, truth in read if truth]),
        unparseable=len(verdicts) - len(read),
    )


def majority(answers: Sequence[T | None]) -> T | None:
    """The most frequent answer; of equally frequent ones the first met; None when there is no answer."""
    counts = Counter(answer for answer in answers if answer is not None)
    return counts.most_common(1)[0][0] if counts else None


def _ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    words = text.split()
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def distinct_ngrams(texts: Sequence[str], n: int = 2, of: int | None = None) -> float | None:
    """Distinct n-grams of words over all n-grams: falls when the texts collapse. None without n-grams.

    More n-grams have a lower share whatever they say. With `of` texts of any number and length compare: the share is
    the one expected among so many n-grams drawn from all of them without putting back (rarefaction: Hurlbert, Ecology
    52, 1971), and None where there are fewer.
    """
    counts = Counter(gram for text in texts for gram in _ngrams(text, n))
    total = sum(counts.values())
    if total < (of or 1):
        return None
    if of is None:
        return len(counts) / total
    left = total - of

    def missed(count: int) -> float:
        """The probability that none of the `count` places of an n-gram is drawn."""
        if count > left:
            return 0.0
        places = (total - count, left, total, left - count)
        one, other, whole, rest = (math.lgamma(place + 1) for place in places)
        return math.exp(one + other - whole - rest)

    by_count = Counter(counts.values())
    return math.fsum(many * (1.0 - missed(count)) for count, many in by_count.items()) / of


def repeated_ngrams(text: str, n: int = 3) -> tuple[int, int]:
    """Of a text's n-grams of words those that stood in it before, and how many there are."""
    grams = list(_ngrams(text, n))
    return len(grams) - len(set(grams)), len(grams)


def entropy(texts: Sequence[str]) -> float | None:
    """Entropy of the texts' words in bits: falls when the texts collapse. None without words."""
    counts = Counter(word for text in texts for word in text.split())
    total = sum(counts.values())
    if not total:
        return None
    return -sum(count / total * math.log2(count / total) for count in counts.values())
