"""How a checkpoint is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfevo_jax.section import Positive, Section


class EvaluateSection(Section):
    """How each checkpoint is measured on the evaluation sets."""

    modes: Annotated[tuple[Literal["direct", "refined", "consistency", "both"], ...], Field(min_length=1)] = (
        "direct",
        "refined",
    )
    """`consistency`: majority of k samples. `both`: majority of k refined samples."""
    k: Positive = 5
    """Samples of `consistency` and `both`."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.7
    """Of the k samples; `direct` and `refined` are greedy."""
