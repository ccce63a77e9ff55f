"""A verdict, and how sure of its own feedback the model was.

The score is the geometric mean of the probabilities of the feedback's tokens, the length-normalised confidence of
Malinin and Gales, "Uncertainty Estimation in Autoregressive Structured Prediction", arXiv 2002.07650: a critic that
hesitates over what it reads is wrong more often than one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from selfevo_jax.judges.base import Judged, passes
from selfevo_jax.judges.verdict import VerdictJudge
from selfevo_jax.text import Verdict

STEP = 0.001
"""Mean log-probabilities are rounded to this. Their last bits depend on the shape of the batch, and records are the
same bytes whatever it was."""
DIGITS = 12


@dataclass(frozen=True)
class ConfidenceJudge(VerdictJudge):
    """Scores above one half are those of good verdicts, the surest nearest to 1; those of bad ones lie below, the
    surest nearest to 0.

    Args:
      least: the score that is good, or a larger one; None takes every good verdict.
    """

    least: float | None = None
    name: str = "confidence"

    def scored(self, said: Judged, logprobs: Sequence[float]) -> Judged:
        if said.good is None or not logprobs:
            return Verdict(None, None, said.end)
        sure = math.exp(round(fmean(logprobs) / STEP) * STEP) / 2
        score = round(0.5 + sure if said.good else 0.5 - sure, DIGITS)
        return Verdict(passes(score, self.least), score, said.end)
