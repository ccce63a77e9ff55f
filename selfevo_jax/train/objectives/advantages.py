"""How much better than the others of its prompt an answer is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

Advantage = Literal["grpo", "rloo", "dr_grpo"]
ADVANTAGES: tuple[str, ...] = get_args(Advantage)
_LEAST = 1e-4
"""Added to a standard deviation."""


def advantages(rewards: Sequence[float], kind: str) -> list[float]:
    """Of the answers to one prompt; all 0 where there is one alone, or where all are worth the same.

    `grpo`: (R - mean) / (standard deviation with n - 1 + 1e-4), Shao et al., arXiv 2402.03300; `dr_grpo`: R - mean, Liu
    et al., arXiv 2503.20783; `rloo`: R - mean of the others, Ahmadian et al., arXiv 2402.14740.
    """
    count = len(rewards)
    if len(set(rewards)) < 2:
        return [0.0] * count
    mean = math.fsum(rewards) / count
    apart = [reward - mean for reward in rewards]
    if kind == "dr_grpo":
        return apart
    if kind == "rloo":
        return [x * count / (count - 1) for x in apart]
    deviation = math.sqrt(math.fsum(x * x for x in apart) / (count - 1))
    return [x / (deviation + _LEAST) for x in apart]
