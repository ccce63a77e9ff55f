"""From judged pairs to figures: win rate, plain and at equal lengths, the judge's bias for a slot, and mean ratings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfevo_jax.evaluate.metrics import Proportion, mcnemar, proportion, wilson
from selfevo_jax.judges import Pair

FEWEST = 8
"""Pairs below which no length-controlled rate is given: two coefficients cannot be told apart by fewer."""
MOST_ERROR = 0.5
"""Of a length-controlled rate that is told at all. Where one side is much longer nearly always, what would be seen at
equal lengths is too far off."""
_LEAST_SPREAD = 1e-3
"""Of the term of length, whose effect could not be computed otherwise."""
_LARGEST_STEP, _MOST_STEPS, _SETTLED = 5.0, 200, 1e-10
"""Of the fit of both coefficients; it takes about ten steps."""
_SCORES = {"win": 1.0, "tie": 0.5, "loss": 0.0}


@dataclass(frozen=True)
class Estimate:
    """A mean or a share with its standard error. None where it cannot be computed."""

    value: float | None
    stderr: float | None
    """None for one row alone."""
    n: int
    """What it rests on."""


def mean(values: Sequence[float]) -> Estimate:
    """The mean of rows and its standard error, sqrt(variance with n - 1 / n)."""
    if not values:
        return Estimate(None, None, 0)
    n = len(values)
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None, n)


@dataclass(frozen=True)
class MeanRating(Estimate):
    """Of the ratings that could be read."""

    unread: int = 0
    """Ratings that could not; they are in no mean."""


def mean_rating(ratings: Sequence[float | None]) -> MeanRating:
    """Ratings of a set's answers (None: unreadable) into their mean with its standard error."""
    read = [rating for rating in ratings if rating is not None]
    return MeanRating(**vars(mean(read)), unread=len(ratings) - len(read))


@dataclass(frozen=True)
class WinRate:
    """A model against another side. Pairs that are not judged are in no rate."""

    pairs: int
    """All of them."""
    wins: int
    ties: int
    """Of which `ties` where both orders say so, and those where the orders disagree: see `consistency`."""
    losses: int
    unjudged: int
    """Pairs of which an order could not be read."""
    unread: dict[str, int]
    """Reason -> texts of the judge that give no verdict."""
    rate: Estimate
    """Share of wins, ties as halves."""
    interval: tuple[float, float] | None
    """Of the rate, 95 % (Wilson). Ties make the scores vary less than a share does, so it is not too narrow."""
    p: float
    """Exact two-sided p of so uneven a split of wins and losses if both sides are equally good (sign test)."""
    length_controlled: Estimate
    """See `length_controlled`."""
    first_interval: tuple[float, float] | None
    """Of `first_slot`, 95 % (Wilson, with the pairs that have such a verdict as rows)."""
    first_slot: Estimate
    """Share of the verdicts for one side that are for the answer shown first; 0.5 without a bias. `n` counts verdicts,
    the error is that of pairs, since both verdicts of a pair depend on each other."""
    consistency: Proportion
    """Share of the judged pairs of which both orders say the same."""
    lengths: tuple[Estimate, Estimate]
    """Characters of the model's and of the other side's answers, all pairs."""


def win_rate(pairs: Sequence[Pair]) -> WinRate:
    """The figures of judged pairs."""
    judged = [pair for pair in pairs if pair.outcome is not None]
    outcomes = [pair.outcome for pair in judged if pair.outcome is not None]
    scores = [_SCORES[outcome] for outcome in outcomes]
    counts = Counter(outcomes)
    rate = mean(scores)
    differences = [len(pair.answers[0]) - len(pair.answers[1]) for pair in judged]
    reasons = [judgement.verdict.unread for pair in pairs for judgement in pair.judgements]
    return WinRate(
        pairs=len(pairs),
        wins=counts["win"],
        ties=counts["tie"],
        losses=counts["loss"],
        unjudged=len(pairs) - len(judged),
        unread=dict(sorted(Counter(reason for reason in reasons if reason is not None).items())),
        rate=rate,
        interval=None if rate.value is None else wilson(math.fsum(scores), len(scores)),
        p=mcnemar(counts["win"], counts["loss"]),
        length_controlled=length_controlled(scores, differences),
        first_slot=(first := _first_slot(judged)),
        first_interval=_first_interval(judged, first),
        consistency=proportion([pair.consistent is True for pair in judged]),
        lengths=(
            mean([len(pair.answers[0]) for pair in pairs]),
            mean([len(pair.answers[1]) for pair in pairs]),
        ),
    )


def _first_slot(judged: Sequence[Pair]) -> Estimate:
    """A ratio of two counts a pair, with the standard error of such a ratio (linearised)."""
    slots = [[judgement.verdict.slot for judgement in pair.judgements] for pair in judged]
    first = np.array([pair.count("A") for pair in slots], float)
    decided = np.array([pair.count("A") + pair.count("B") for pair in slots], float)
    total = decided.sum()
    if not total:
        return Estimate(None, None, 0)
    share, n = float(first.sum() / total), len(slots)
    rest = float(np.sum((first - share * decided) ** 2))
    return Estimate(share, math.sqrt(rest * n / (n - 1)) / float(total) if n > 1 else None, int(total))


def _first_interval(judged: Sequence[Pair], first: Estimate) -> tuple[float, float] | None:
    pairs = sum(any(judgement.verdict.slot != "C" for judgement in pair.judgements) for pair in judged)
    return None if first.value is None else wilson(first.value * pairs, pairs)


def length_controlled(scores: Sequence[float], differences: Sequence[float]) -> Estimate:
    """The win rate that would be seen at equal lengths, after AlpacaEval 2.

    Model: P(win) = sigmoid(theta + phi * tanh(d / s)), d the difference of lengths in characters (the model's less the
    other's) and s its standard deviation; the rate is sigmoid(theta), its error that of theta by the robust (sandwich)
    variance, carried over by the derivative.

    As in AlpacaEval: the term of length and its scale, ties as halves, the value at zero difference. Not as there: no
    difficulty of each prompt (it needs fits of many models on AlpacaEval's own 805 prompts), no rows of baselines that
    were told to be brief or verbose, no cross-validated L1 penalty. In its place stands Firth's penalty (half the
    logarithm of the information's determinant), which keeps theta and phi finite where one side wins everything.

    Args:
      scores: 1 for a win, 0.5 for a tie, 0 for a loss.
      differences: of the same pairs.

    Sources: Dubois et al., "Length-Controlled AlpacaEval", arXiv 2404.04475; Firth, Biometrika 80 (1993).
    """
    from scipy.special import expit  # here alone, since it takes longer to import than most commands need

    n = len(scores)
    if n < FEWEST:
        return Estimate(None, None, n)
    y, d = np.asarray(scores, float), np.asarray(differences, float)
    spread = float(np.std(d, ddof=1))
    term = np.tanh(d / spread) if spread > 0 else d
    varies = bool(np.std(term) > _LEAST_SPREAD)
    if not varies and d.any():  # all differences are alike: what they do cannot be seen
        return Estimate(None, None, n)
    x = np.stack([np.ones(n), term] if varies else [np.ones(n)], axis=1)

    theta = _firth(x, y)
    p = expit(x @ theta)
    bread = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x)
    meat = (x * ((y - p) ** 2)[:, None]).T @ x * n / (n - x.shape[1])
    one_sided = y.min() == 1 or y.max() == 0  # such scores say nothing of how they vary
    variance, rate = float((bread if one_sided else bread @ meat @ bread)[0, 0]), float(expit(theta[0]))
    error = rate * (1 - rate) * math.sqrt(variance)
    return Estimate(rate, error, n) if error < MOST_ERROR else Estimate(None, None, n)


def _firth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients `[k]` of a logistic model of `y [n]` by `x [n, k]` with Firth's penalty.

    Newton steps on the score that the penalty changes, each halved until it is no step down: with the gradient by
    differences, as a general minimizer takes it, fits of few rows end where they began to, and the two sides' rates do
    not add up to one.
    """
    from scipy.special import expit

    def penalised(theta: np.ndarray) -> float:
        eta = x @ theta
        p = expit(eta)
        sign, logdet = np.linalg.slogdet((x * (p * (1 - p))[:, None]).T @ x)
        return -math.inf if sign <= 0 else float(np.sum(y * eta - np.logaddexp(0.0, eta))) + 0.5 * float(logdet)

    theta = np.zeros(x.shape[1])
    for _ in range(_MOST_STEPS):
        p = expit(x @ theta)
        weights = p * (1 - p)
        inverse = np.linalg.inv((x * weights[:, None]).T @ x)
        leverage = weights * np.einsum("ij,jk,ik->i", x, inverse, x)
        step = inverse @ (x.T @ (y - p + leverage * (0.5 - p)))
        step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), _SETTLED))
        while penalised(theta + step) < penalised(theta) and np.abs(step).max() > _SETTLED:
            step = step / 2
        theta = theta + step
        if np.abs(step).max() <= _SETTLED:
            break
    return theta
