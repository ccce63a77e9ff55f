"""Measuring: accuracy with standard errors, flips, verdict quality, data accuracy."""

from selfevo_jax.evaluate.benchmark import DataAccuracy, Evaluation, data_accuracy, is_right, score, vote
from selfevo_jax.evaluate.metrics import (
    Proportion,
    VerdictQuality,
    distinct_ngrams,
    entropy,
    majority,
    proportion,
    verdict_quality,
)

__all__ = [
    "DataAccuracy",
    "Evaluation",
    "Proportion",
    "VerdictQuality",
    "data_accuracy",
    "distinct_ngrams",
    "entropy",
    "is_right",
    "majority",
    "proportion",
    "score",
    "verdict_quality",
    "vote",
]
