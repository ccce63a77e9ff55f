"""Several texts of feedback on one answer, joined: samples of one instruction, or several instructions.

Source: Coste et al., "Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743 (mean, the worst member,
and the mean less the weighted variance); here the members are texts of one model, which share its blind spots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance
from typing import Literal

from selfevo_jax.judges.base import ChainJudge, Judged, passes
from selfevo_jax.text import Verdict

Join = Literal["mean", "min", "mean_minus_variance"]
DIGITS = 6
"""Decimals of a joined score."""


def joined_score(scores: Sequence[float], join: Join, weight: float) -> float:
    """`mean_minus_variance`: `weight` times the variance (of the members themselves, not estimated) is subtracted."""
    if join == "min":
        return min(scores)
    return fmean(scores) - (weight * pvariance(scores) if join == "mean_minus_variance" else 0.0)


@dataclass(frozen=True)
class EnsembleJudge(ChainJudge):
    """The members' marks, or the votes 1 and 0 of their verdicts, as one score.

    Args:
      member: reads each text, and D_meta's feedback.
      texts: what asks for each (None: what the format asks).
      least: the score that is good, or better; None is more than half.
      least_read: members that must be readable for a score. The others are left out of it, and counted: what cannot be
        read is no vote.
    """

    member: ChainJudge
    texts: tuple[str | None, ...]
    join: Join
    weight: float
    least: float | None
    least_read: int
    name: str = "ensemble"

    @property
    def instruction(self) -> str | None:
        return self.member.instruction

    @property
    def asks(self) -> Sequence[str | None]:
        return self.texts

    @property
    def marks(self) -> Sequence[str]:
        return self.member.marks

    def read(self, feedback: str) -> Judged:
        return self.member.read(feedback)

    def joined(self, read: Sequence[Judged]) -> Judged:
        scores = [float(one.good) if one.rating is None else one.rating for one in read if one.good is not None]
        if len(scores) < self.least_read:
            return Verdict(None, None)
        score = round(joined_score(scores, self.join, self.weight), DIGITS)
        return Verdict(passes(score, self.least), score)

    def bare(self, feedback: str, good: bool) -> str:
        return self.member.bare(feedback, good)
