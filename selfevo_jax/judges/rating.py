"""A mark, in the model's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.judges.base import ChainJudge
from selfevo_jax.text import JUDGE_RATING, Verdict, VerdictRule, parse_verdict


@dataclass(frozen=True)
class RatingJudge(ChainJudge):
    """Good is a mark of `good_rating` or more of `scale` (see `selfevo_jax.text.RATINGS`). Raises ConfigError for one
    beyond the scale."""

    good_rating: float = VerdictRule.good_rating
    scale: float = VerdictRule.scale
    name: str = "rating"
    instruction: str | None = JUDGE_RATING

    def __post_init__(self) -> None:
        self._rule()

    @property
    def marks(self) -> Sequence[str]:
        return ("Rating:",)

    def read(self, feedback: str) -> Verdict:
        return parse_verdict(feedback, self._rule())

    def bare(self, feedback: str, good: bool) -> str:
        return f"Rating: {self.read(feedback).rating:g}"

    def _rule(self) -> VerdictRule:
        return VerdictRule("rating", self.good_rating, self.scale)
