"""Selections by a score: a rating, a share of votes, a probability, what a judge of finished chains gives. Pure.

Sources: best of n, Dong et al. (RAFT), arXiv 2304.06767; rising thresholds, Gulcehre et al. (ReST), arXiv 2308.08998;
the best and another one, Shen et al. (PF-PPO), arXiv 2409.06957; improvement, Wang et al. (PIT), arXiv 2310.00898.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from selfevo_jax.chains import Rollout
from selfevo_jax.config.rounds import Extremes, RoundsSection
from selfevo_jax.methods.answers import Answer

DIGITS = 9
"""Decimals to which places within a round, and differences of scores, are taken."""


@dataclass(frozen=True)
class Taken:
    """What a selection takes of a round."""

    rows: list[Rollout]
    """Each with the candidate that is taken as its chosen one, in the order given."""
    unscored: int
    """Whole rows without the scores that are needed: they are never taken."""


ByScore = Callable[[Sequence[Rollout]], Taken]


def by_score(rounds: RoundsSection, round: int) -> ByScore | None:
    """The selection that a config names; None where it is none by a score."""
    policies: dict[str, ByScore] = {
        "best_of_n": lambda rows: best_of_n(rows, rounds.keep),
        "threshold": lambda rows: above_quantile(rows, rounds.quantile(round)),
        "improvement": lambda rows: improved(rows, rounds.margin),
    }
    return policies.get(rounds.select)


def best_of_n(rows: Sequence[Rollout], keep: int) -> Taken:
    """Of each prompt the rows with the best scores; of equal ones the earliest."""
    scored, unscored = _scored(rows)
    by_prompt: dict[str, list[tuple[float, int]]] = {}
    for at, (row, score) in enumerate(scored):
        by_prompt.setdefault(row.prompt, []).append((-score, at))
    taken = {at for found in by_prompt.values() for _, at in sorted(found)[:keep]}
    return Taken([row for at, (row, _) in enumerate(scored) if at in taken], unscored)


def above_quantile(rows: Sequence[Rollout], quantile: float) -> Taken:
    """Rows whose score is that quantile of the round, or better."""
    scored, unscored = _scored(rows)
    least = quantile_of([score for _, score in scored], quantile) if scored else 0.0
    return Taken([row for row, score in scored if score >= least], unscored)


def quantile_of(scores: Iterable[float], quantile: float) -> float:
    """Between two scores in proportion; of one score or more."""
    ordered = sorted(scores)
    place = round(quantile * (len(ordered) - 1), DIGITS)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def improved(rows: Sequence[Rollout], margin: float) -> Taken:
    """Of each chain its best refinement (the earliest of equal ones), where it scores more than the response by more
    than `margin`."""
    taken, unscored = list[Rollout](), 0
    for row in rows:
        first = Answer(row, 0).score
        later = [Answer(row, at) for at in range(1, len(row.candidates))]
        scores = {answer.index: score for answer in later if answer.usable and (score := answer.score) is not None}
        if first is None or not scores:
            unscored += 1
            continue
        best = max(scores, key=lambda at: (scores[at], -at))
        if round(scores[best] - first, DIGITS) > margin:
            taken.append(replace(row, chosen=best))
    return Taken(taken, unscored)


def best_refinements(rows: Sequence[Rollout]) -> Taken:
    """Of each chain with refinements the one that scores best among those that are called good (the earliest of equal
    ones)."""
    taken, unscored = list[Rollout](), 0
    for row in rows:
        later = [answer for at in range(1, len(row.candidates)) if (answer := Answer(row, at)).usable]
        scores = {answer.index: score for answer in later if (score := answer.score) is not None}
        unscored += bool(later) and not scores
        good = [answer.index for answer in later if answer.good is True]
        if good:
            taken.append(replace(row, chosen=max(good, key=lambda at: (scores[at], -at))))
    return Taken(taken, unscored)


def winners(rows: Sequence[Rollout]) -> Taken:
    """Of each chain of two answers the one that scores more; none where both score the same."""
    taken, unscored = list[Rollout](), 0
    for row in rows:
        scores = [Answer(row, at).score for at in range(len(row.candidates))]
        known = [score for score in scores if score is not None]
        if len(known) < 2:
            unscored += 1
        elif len(set(known)) > 1:
            taken.append(replace(row, chosen=scores.index(max(known))))
    return Taken([row for row in taken if Answer(row, row.chosen).usable], unscored)


def extreme_weights(scores: Sequence[float], rule: Extremes) -> list[float]:
    """What each of a prompt's samples counts. `best_worst`: the best and the worst 1, the others 0. `best_random`: the
    best 0.4, the others 0.1 each. Of equal ones the earliest is the best, or the worst."""
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    if rule == "best_worst":
        return [float(at in (best, worst)) for at in range(len(scores))]
    return [0.4 if at == best else 0.1 for at in range(len(scores))]


def extremes(scores: Sequence[float], rule: Extremes, rng: random.Random) -> tuple[int, int] | None:
    """The places of the best score and of the one that it is compared with: the worst one, or any that is worse; the
    earliest of equal ones. None where all are equal."""
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    worse = [at for at, score in enumerate(scores) if score < scores[best]]
    if not worse:
        return None
    return best, worst if rule == "best_worst" else rng.choice(worse)


def _scored(rows: Iterable[Rollout]) -> tuple[list[tuple[Rollout, float]], int]:
    """Rows whose chosen candidate is whole and has a score, and how many whole ones have none."""
    whole = [answer for row in rows if (answer := Answer(row, row.chosen)).usable]
    found = [(answer.rollout, score) for answer in whole if (score := answer.score) is not None]
    return found, len(whole) - len(found)
