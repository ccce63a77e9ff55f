"""Self-rewarding: several answers to a prompt, each judged several times by the model itself; the best against the
worst.

Source: Yuan et al., "Self-Rewarding Language Models", arXiv 2401.10020. `data.self_written` has the model write the
prompts, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from selfevo_jax.methods.iterative_dpo import IterativeDpo


@dataclass(frozen=True)
class SelfRewarding(IterativeDpo):
    """As `iterative_dpo` with pairs of samples alone, without refinements; by default each answer has three texts of
    feedback, whose mean is its mark."""

    pairs: str = "samples"
    name: str = "self_rewarding"
    settings: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns",)
