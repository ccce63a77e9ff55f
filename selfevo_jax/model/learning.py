"""How the parameters are learnt: adapters in place of them, and what the backward pass computes again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from selfevo_jax.errors import ConfigError

Remat = Literal["none", "minimal", "full", "offload"]
"""What the backward pass finds in memory: everything (`none`), the outputs of the matrix products (`minimal`), the
input of each layer alone (`full`), or that in the host's memory (`offload`). The rest is computed again.
In the order of the memory that they take, the most first."""

Target = Literal["q", "k", "v", "o", "gate", "up", "down"]
MATRICES: dict[str, int] = {"q": 1, "k": 1, "v": 1, "o": 2, "gate": 1, "up": 1, "down": 1}
"""Matrices that can be adapted, with the number of their input axes."""


@dataclass(frozen=True)
class LoraConfig:
    """What is adapted, and how far. Frozen and hashable."""

    rank: int = 16
    alpha: float = 32.0
    """The product is scaled by alpha / rank."""
    targets: tuple[Target, ...] = get_args(Target)
    """Of each layer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.rank < 1 or not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"lora: rank {self.rank} (1 or more) and alpha {self.alpha} (above 0)")
        unknown = set(self.targets) - set(MATRICES)
        if unknown or not self.targets:
            raise ConfigError(f"lora: targets {list(self.targets)}; expected some of {', '.join(MATRICES)}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank
