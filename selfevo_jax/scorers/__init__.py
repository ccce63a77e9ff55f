"""What grades an answer: one small file each."""

from selfevo_jax.scorers.base import NO_ANSWER, NOT_SCORED, Fault, Grade, ScoredRow, Scorer, ScorerSection
from selfevo_jax.scorers.calls import called
from selfevo_jax.scorers.registry import code_checksums, open_scorers
from selfevo_jax.scorers.section import EvaluationSection

__all__ = [
    "NOT_SCORED",
    "NO_ANSWER",
    "EvaluationSection",
    "Fault",
    "Grade",
    "ScoredRow",
    "Scorer",
    "ScorerSection",
    "called",
    "code_checksums",
    "open_scorers",
]
