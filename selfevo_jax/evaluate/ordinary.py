"""How probable a checkpoint finds held-out answers that people have written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from selfevo_jax.evaluate.winrate import Estimate, mean

DIGITS = 4
"""Decimals of log-likelihoods: the last bits of sums depend on the mesh, and records do not."""

LogLikelihoods = Mapping[str, float | None]
"""Row id -> mean log-probability of the tokens of its answer and of its end, in nats; None where there is none."""


@dataclass(frozen=True)
class OrdinaryFigures:
    """One checkpoint on the ordinary answers."""

    rows: int
    too_long: int
    """Rows that the model has no positions for; they are in no figure."""
    not_finite: int
    """Rows that the model gives no finite number; they are in no figure either."""
    tokens: int
    """Of the answers in the figure, their ends among them."""
    log_likelihood: Estimate
    """Mean over rows of `by_row`, in nats a token, and its standard error by the rows."""
    by_row: dict[str, float | None]
    """See `LogLikelihoods`."""


def ordinary_figures(logps: Mapping[str, tuple[float, int] | None]) -> OrdinaryFigures:
    """Of row id -> the log-probability of its answer and the number of its tokens; None for a row that is too long."""
    by_row = {id: None if one is None or not math.isfinite(one[0]) else one[0] / one[1] for id, one in logps.items()}
    by_row = {id: None if value is None else round(value, DIGITS) for id, value in by_row.items()}
    known = [value for value in by_row.values() if value is not None]
    too_long = sum(one is None for one in logps.values())
    return OrdinaryFigures(
        rows=len(logps),
        too_long=too_long,
        not_finite=len(logps) - too_long - len(known),
        tokens=sum(one[1] for id, one in logps.items() if one is not None and by_row[id] is not None),
        log_likelihood=mean(known),
        by_row=by_row,
    )


@dataclass(frozen=True)
class LikelihoodChange:
    """The log-likelihood of one checkpoint less that of another, row by row."""

    n: int
    """Rows that both have."""
    gain: float
    """Mean difference, in nats a token."""
    stderr: float | None
    """Of it, by the differences of the rows; None for one alone."""
    lower: bool
    """By more than two standard errors."""


def likelihood_change(before: LogLikelihoods, after: LogLikelihoods) -> LikelihoodChange | None:
    """None where no row has both."""
    pairs = [(was, now) for id, was in before.items() if was is not None and (now := after.get(id)) is not None]
    found = mean([now - was for was, now in pairs])
    if found.value is None:
        return None
    lower = found.stderr is not None and found.value < -2 * found.stderr
    return LikelihoodChange(found.n, found.value, found.stderr, lower)
