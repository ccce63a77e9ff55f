"""What grades an answer: one small file each."""

from selfevo_jax.scorers.base import Grade, ScoredRow, Scorer

__all__ = ["Grade", "ScoredRow", "Scorer"]
