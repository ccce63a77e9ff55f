"""Measuring: accuracy with intervals, checkpoints compared row by row, flips, verdict quality, data accuracy."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.evaluate.benchmark import (
        Accuracy,
        DataAccuracy,
        Evaluation,
        EvaluationSet,
        data_accuracy,
        rollout_of,
        score,
        vote,
    )
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
    from selfevo_jax.evaluate.open_ended import MarkGain, OpenFigures, mark_gain, open_figures
    from selfevo_jax.evaluate.ordinary import LikelihoodChange, OrdinaryFigures, likelihood_change, ordinary_figures
    from selfevo_jax.evaluate.section import EvaluateSection
    from selfevo_jax.evaluate.texts import BIGRAMS, FAULTS, TextFigures, fault_changes, grew, text_figures
    from selfevo_jax.evaluate.winrate import (
        Estimate,
        MeanRating,
        WinRate,
        length_controlled,
        mean,
        mean_rating,
        win_rate,
    )
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "BIGRAMS",
    "FAULTS",
    "Accuracy",
    "DataAccuracy",
    "Estimate",
    "EvaluateSection",
    "Evaluation",
    "EvaluationSet",
    "LikelihoodChange",
    "MarkGain",
    "MeanRating",
    "OpenFigures",
    "OrdinaryFigures",
    "Paired",
    "Proportion",
    "TextFigures",
    "VerdictQuality",
    "WinRate",
    "data_accuracy",
    "distinct_ngrams",
    "entropy",
    "fault_changes",
    "grew",
    "length_controlled",
    "likelihood_change",
    "majority",
    "mark_gain",
    "mean",
    "mean_rating",
    "open_figures",
    "ordinary_figures",
    "paired",
    "proportion",
    "rollout_of",
    "score",
    "text_figures",
    "verdict_quality",
    "vote",
    "wilson",
    "win_rate",
]
