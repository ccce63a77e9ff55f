"""Measuring: accuracy with intervals, checkpoints compared row by row, flips, verdict quality, data accuracy."""

from selfevo_jax.evaluate.benchmark import Accuracy, DataAccuracy, Evaluation, data_accuracy, is_right, score, vote
from selfevo_jax.evaluate.metrics import (
    Paired,
    Proportion,
    VerdictQuality,
    distinct_ngrams,
    entropy,
    majority,
    paired,
    proportion,
    verdict_quality,
    wilson,
)

__all__ = [
    "Accuracy",
    "DataAccuracy",
    "Evaluation",
    "Paired",
    "Proportion",
    "VerdictQuality",
    "data_accuracy",
    "distinct_ngrams",
    "entropy",
    "is_right",
    "majority",
    "paired",
    "proportion",
    "score",
    "verdict_quality",
    "vote",
    "wilson",
]
