"""Self-training on what passes: many samples, a filter, and each round from the base again.

Source: Singh et al. (ReST-EM), arXiv 2312.06585. There gold answers filter; here the model's own verdict does, or with
`rounds.select: threshold` a quantile of its scores that may rise from round to round (ReST, arXiv 2308.08998).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.self_refine import SelfRefine


@dataclass(frozen=True)
class RestEm(SelfRefine):
    """As `self_refine` without refinements, from the base on what passed in the last round alone, of a prompt
    `rounds.per_prompt` different answers at most."""

    name: str = "rest_em"
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns", "rounds.variant", "rounds.pool")

    def __post_init__(self) -> None:
        """Raises ConfigError for settings of other methods."""
        super().__post_init__()
        select = self.config.rounds.select
        if select not in ("feedback", "threshold"):
            raise ConfigError(f"rounds.select: found {select}, but {self.name} takes feedback, or threshold")
