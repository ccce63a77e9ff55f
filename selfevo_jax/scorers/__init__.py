"""What grades an answer: one small file each."""

from selfevo_jax.scorers.base import NO_ANSWER, NOT_SCORED, Fault, Grade, ScoredRow, Scorer, ScorerSection

__all__ = ["NOT_SCORED", "NO_ANSWER", "Fault", "Grade", "ScoredRow", "Scorer", "ScorerSection"]
