"""The figures of one checkpoint on open-ended prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfevo_jax.evaluate.metrics import SIGNIFICANT, mcnemar
from selfevo_jax.evaluate.winrate import Estimate, MeanRating, WinRate, mean, mean_rating, win_rate
from selfevo_jax.judges import Pair

Marks = Mapping[str, float | None]
"""Prompt id -> mark; None: it cannot be read."""


@dataclass(frozen=True)
class MarkGain:
    """The marks of one side less those of another one, prompt by prompt."""

    n: int
    """Prompts of which both marks could be read."""
    gain: float
    """Mean difference."""
    stderr: float | None
    """Of it, by the differences of the prompts; None for one alone."""
    higher: int
    lower: int
    p: float
    """Exact two-sided p of so uneven a split of higher and lower marks if both sides are equally good (sign test)."""
    better: bool
    """Measurably."""
    worse: bool
    """Measurably."""


def mark_gain(before: Marks, after: Marks) -> MarkGain | None:
    """None where no prompt has both marks."""
    pairs = [(was, now) for id, was in before.items() if was is not None and (now := after.get(id)) is not None]
    if not pairs:
        return None
    differences = [now - was for was, now in pairs]
    n, gain = len(pairs), float(np.mean(differences))
    higher, lower = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = mcnemar(higher, lower)
    error = float(np.std(differences, ddof=1)) / math.sqrt(n) if n > 1 else None
    better, worse = (p < SIGNIFICANT and sign * gain > 0 < sign * (higher - lower) for sign in (1, -1))
    return MarkGain(n, gain, error, higher, lower, p, better, worse)


@dataclass(frozen=True)
class OpenFigures:
    """One checkpoint on one set."""

    rows: int
    judge: str
    """In words."""
    against: str
    failed: int
    """Prompts that could not be answered; they are in no figure."""
    clipped: int
    """Answers that hit a limit."""
    length: Estimate
    """Characters of the answers."""
    win_rate: WinRate | None
    """None for the base beside itself."""
    better: bool
    """Wins measurably more often than it loses (sign test)."""
    worse: bool
    outcomes: dict[str, str | None]
    """Prompt id -> win, tie or loss; None: not judged."""
    rating: MeanRating | None
    """None where marks are not asked for."""
    rating_against: MeanRating | None
    rating_gain: MarkGain | None
    """Over the other side's."""
    ratings: dict[str, float | None]
    """Prompt id -> mark."""


def open_figures(
    answers: Mapping[str, str | None],
    clipped: int,
    pairs: Sequence[Pair] | None,
    marks: Marks | None,
    marks_against: Marks | None,
    judge: str,
    against: str,
) -> OpenFigures:
    """The figures.

    Args:
      answers: prompt id -> text; None where there is none.
      clipped: answers that hit a limit.
      pairs: each answer beside the other side's; None where there is no other side.
      marks: of the answers; None where they are not asked for.
      marks_against: of the other side's.
      judge, against: in words.
    """
    given = [text for text in answers.values() if text is not None]
    rate = None if pairs is None else win_rate(pairs)
    sure = rate is not None and rate.p < SIGNIFICANT
    return OpenFigures(
        rows=len(answers),
        judge=judge,
        against=against,
        failed=len(answers) - len(given),
        clipped=clipped,
        length=mean([len(text) for text in given]),
        win_rate=rate,
        better=rate is not None and sure and rate.wins > rate.losses,
        worse=rate is not None and sure and rate.wins < rate.losses,
        outcomes={pair.id: pair.outcome for pair in pairs or ()},
        rating=None if marks is None else mean_rating(list(marks.values())),
        rating_against=None if marks_against is None else mean_rating(list(marks_against.values())),
        rating_gain=None if marks is None or marks_against is None else mark_gain(marks_against, marks),
        ratings=dict(marks or {}),
    )
