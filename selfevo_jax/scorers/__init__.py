"""What grades an answer: one small file each."""

from selfevo_jax.scorers.base import NO_ANSWER, NOT_SCORED, Fault, Grade, ScoredRow, Scorer, ScorerSection
from selfevo_jax.scorers.calls import faults_of, grades_of, keys_of, spoiled
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
    "code_checksums",
    "faults_of",
    "grades_of",
    "keys_of",
    "open_scorers",
    "spoiled",
]
