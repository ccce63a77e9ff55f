"""A figure of several runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A share, a gain or a difference of the runs of a row."""

    mean: float
    stderr: float | None
    """Of several seeds: of the mean, over them. Of one: of a gain or difference the paired one over the rows."""
    seeds: dict[int, float]
    rows: int | None = None
    """Behind the figure of one seed, or of several that share it."""
    p: float | None = None
    """Of a gain or difference of one seed: McNemar's exact p."""


def over_seeds(values: Mapping[int, float], rows: int | None = None) -> Figure | None:
    """Mean and its standard error; none of one seed, or of several that share what `rows` rows say."""
    if not values:
        return None
    if len(values) == 1 or rows is not None:
        return Figure(next(iter(values.values())), None, dict(values), rows)
    error = statistics.stdev(values.values()) / math.sqrt(len(values))
    return Figure(statistics.fmean(values.values()), error, dict(values))
