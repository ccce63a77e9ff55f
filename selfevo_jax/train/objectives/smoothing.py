"""How many pairs are believed to be the wrong way round, by how often the critic is wrong where that is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfevo_jax.train.objectives.base import Objective

CONTROLS = "controls"
"""In the place of `label_smoothing`: the share of a round's planted wrong answers that the critic calls good."""
DEFAULT_SMOOTHING = 0.1
MOST = 0.45
"""With half of all pairs the wrong way round there is nothing to learn."""


def settled(objective: Objective, controls: Mapping[str, int] | None) -> tuple[Objective, str | None]:
    """The objective of a round, and what the user should know of it; `controls` are the round's planted `rows`, how
    many `passed`, and (`unread`) on how many the feedback cannot be read: those are in no share."""
    if getattr(objective, "label_smoothing", None) != CONTROLS:
        return objective, None
    found = controls or {"rows": 0, "passed": 0}
    read, passed = found["rows"] - found.get("unread", 0), found["passed"]
    share = min(passed / read, MOST) if read else DEFAULT_SMOOTHING
    told = f"label_smoothing is {share:g}: {passed} of {read} planted wrong answers pass the critic"
    if not read:
        why = (
            "no feedback on planted wrong answers can be read" if found["rows"] else "no wrong answer could be planted"
        )
        told = f"label_smoothing is {share:g}: {why} to estimate it by"
    made: Any = objective
    return dataclasses.replace(made, label_smoothing=share), told
