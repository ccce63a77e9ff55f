"""How probable the model finds the good verdict, at the place where its own feedback gives one.

The score is a softmax over two words, as SteamSHP scores in Mukobi et al., "SuperHF", arXiv 2310.16763: it ranks
answers that a drawn verdict only sorts into two heaps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.judges.base import ChainJudge, Judged, Weighed, passes
from selfevo_jax.text import Verdict, behind_thinking

STEP = 0.1
"""Log-odds are rounded to this. The last bits of log-probabilities depend on the shape of the batch, and records are
the same bytes whatever it was."""
DIGITS = 12
"""Decimals of a probability: near 0 and 1, too, steps of the log-odds differ in it."""


@dataclass(frozen=True)
class LikelihoodJudge(ChainJudge):
    """Feedback up to the line of its first `lead`; behind that the model is asked for `good` against `bad`. A `lead` in
    what is only thought before the feedback is none.

    Args:
      least: the probability of `good` that is good, or a larger one; None is more than half.
      least_mass: what both words together must have of all probability. Where they have less the model was about to
        say something else: the feedback cannot be read.
    """

    lead: str = "Verdict:"
    good: str = "correct"
    bad: str = "incorrect"
    least: float | None = None
    least_mass: float = 0.5
    name: str = "likelihood"

    @property
    def weighs(self) -> Weighed:
        return self

    @property
    def marks(self) -> Sequence[str]:
        return (self.lead,)

    def place(self, feedback: str) -> int | None:
        begin = behind_thinking(feedback)
        at = -1 if begin is None else feedback.find(self.lead, begin)
        return None if at < 0 else at + len(self.lead)

    def read(self, feedback: str) -> Judged:
        """The word as it was written, which D_meta is checked by."""
        at = self.place(feedback)
        if at is None:
            return Verdict(None, None)
        line, _, behind = feedback[at:].partition("\n")
        if not line.strip():  # the word on a line of its own
            return Verdict(self._said(feedback[at:]), None)
        return Verdict(self._said(line), None, at + len(line) if behind.strip() else None)

    def weighed(self, good: float, bad: float) -> Judged:
        if math.exp(good) + math.exp(bad) < self.least_mass:
            return Verdict(None, None)
        odds = min(700.0, max(-700.0, round((good - bad) / STEP) * STEP))
        score = round(1 / (1 + math.exp(-odds)), DIGITS)
        return Verdict(passes(score, self.least), score)

    def bare(self, feedback: str, good: bool) -> str:
        return f"{self.lead} {self.good if good else self.bad}."

    def _said(self, text: str) -> bool | None:
        for good, word in sorted({True: self.good, False: self.bad}.items(), key=lambda of: -len(of[1])):
            if re.match(rf"[\s*_\"']*{re.escape(word)}(?!\w)", text):
                return good
        return None
