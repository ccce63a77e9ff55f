"""Right or wrong, in the model's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.judges.base import ChainJudge
from selfevo_jax.text import Verdict, VerdictRule, parse_verdict


@dataclass(frozen=True)
class VerdictJudge(ChainJudge):
    """Good is what a clause of the written list of verdicts says (see `selfevo_jax.text.VERDICTS`)."""

    name: str = "verdict"

    @property
    def marks(self) -> Sequence[str]:
        return ("Verdict:",)

    def read(self, feedback: str) -> Verdict:
        return parse_verdict(feedback, VerdictRule())

    def bare(self, feedback: str, good: bool) -> str:
        return f"Verdict: {'correct' if good else 'incorrect'}."
