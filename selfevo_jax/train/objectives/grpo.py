"""Policy gradients: what was drawn becomes likelier or less likely by how much better than the others it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from selfevo_jax.train.objectives.advantages import ADVANTAGES, advantages
from selfevo_jax.train.objectives.base import TOKEN_REFERENCE, Targets
from selfevo_jax.train.objectives.checks import check, check_choice, check_count
from selfevo_jax.train.objectives.sft_kl import strayed

ADVANTAGE, DRAWN = "advantage", "drawn"
"""Extras: what `Grpo.advantages` makes of the rewards of a prompt's answers; and 1 for an answer that was drawn, 0 for
an example that is learnt beside them as it is, by -log-probability."""


@dataclass(frozen=True)
class Grpo:
    """-min(rho A, clip(rho, 1 - clip, 1 + clip_high) A) of each target, + kl_weight times what it has strayed
    (exp(-x) + x - 1, x = log rho). Source: Shao et al. (GRPO), arXiv 2402.03300.

    A is the advantage of its answer, rho the probability of the target over that at the start of the fine-tuning: the
    model that drew the answers, which is also what kl_weight holds it to. They were drawn as the model is: at
    temperature 1 from all tokens. At the start rho is 1, and the gradient that of -A log-probability.
    """

    advantage: str = "grpo"
    """`grpo`, `rloo` or `dr_grpo`: see `advantages`."""
    ratio: str = "token"
    """Whether rho is that of a `token`, or of the whole `sequence` (as in RLOO), for which `loss_aggregation` is
    `sequence`."""
    loss_aggregation: str = "sequence"
    """`sequence`: the mean over an answer's tokens, and of that over answers (GRPO); `token`: over all tokens of a step
    (DAPO, arXiv 2503.14476); `constant`: the sum over tokens divided by answers times `constant_length` (Dr. GRPO,
    arXiv 2503.20783)."""
    constant_length: int | None = None
    """Tokens, such as `max_new_tokens` of answers; for `constant` alone."""
    clip: float = 0.2
    clip_high: float | None = None
    """Above 1; null: as `clip`."""
    kl_weight: float = 0.0

    name: ClassVar[str] = "grpo"
    reads: ClassVar[tuple[str, ...]] = (ADVANTAGE, DRAWN, TOKEN_REFERENCE)
    linear: ClassVar[bool] = False
    shows: ClassVar[tuple[str, ...]] = ("clipped", "strayed")
    """The share of the drawn targets (with `ratio` sequence: answers) that are pushed no further, as they have come far
    enough; and the mean over drawn targets of what `kl_weight` weighs."""

    def __post_init__(self) -> None:
        check_choice(self.name, "advantage", self.advantage, ADVANTAGES)
        check_choice(self.name, "ratio", self.ratio, ("token", "sequence"))
        ways = ("token", "sequence", "constant") if self.ratio == "token" else ("sequence",)
        check_choice(self.name, "loss_aggregation", self.loss_aggregation, ways)
        if self.loss_aggregation == "constant" or self.constant_length is not None:
            check_count(self.name, "constant_length", self.constant_length or 0)
        check(self.name, "clip", self.clip, 0, 1)
        if self.clip_high is not None:
            check(self.name, "clip_high", self.clip_high, 0)
        check(self.name, "kl_weight", self.kl_weight, 0, least=True)

    def advantages(self, rewards: Sequence[float]) -> list[float]:
        """Of the answers to one prompt."""
        return advantages(rewards, self.advantage)

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        drawn, gain = self._gains(logps, targets)
        held = jnp.where(drawn > 0, self.kl_weight * strayed(gain), -logps)
        if self.ratio == "sequence":
            whole, each = targets.sequences(gain), targets.sequences(held)
            pushed = self._pushed(whole.logps, whole.extras[ADVANTAGE]) * whole.extras[DRAWN]
            return (whole.there * pushed - each.mean_nll).sum(), whole.there.sum()
        by_token = drawn * self._pushed(gain, targets.extras[ADVANTAGE]) + held
        found = targets.sequences(by_token)
        if self.loss_aggregation == "sequence":
            return -found.mean_nll.sum(), found.there.sum()
        if self.loss_aggregation == "token":
            return found.logps.sum(), found.weights.sum()
        return found.logps.sum(), found.there.sum() * float(self.constant_length or 1)

    def figures(self, logps: jax.Array, targets: Targets) -> jax.Array:
        """Of `shows`."""
        drawn, gain = self._gains(logps, targets)
        counted = each = drawn * (targets.weights != 0)
        moved, advantage = gain, targets.extras[ADVANTAGE]
        if self.ratio == "sequence":
            found = targets.sequences(gain)
            moved, advantage, each = found.logps, found.extras[ADVANTAGE], found.there * found.extras[DRAWN]
        ratio = jnp.exp(moved)
        clipped = each * (ratio * advantage > self._clipped(ratio) * advantage)
        sums = [clipped.sum(), each.sum(), (counted * strayed(gain)).sum(), counted.sum()]
        return jnp.stack(sums).reshape(2, 2)

    def _gains(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        """1 for each target that was drawn, and log rho."""
        drawn = targets.extras[DRAWN]
        return drawn, jnp.where(drawn > 0, logps - targets.extras[TOKEN_REFERENCE], 0.0)

    def _pushed(self, gain: jax.Array, advantage: jax.Array) -> jax.Array:
        ratio = jnp.exp(gain)
        return -jnp.minimum(ratio * advantage, self._clipped(ratio) * advantage)

    def _clipped(self, ratio: jax.Array) -> jax.Array:
        above = self.clip if self.clip_high is None else self.clip_high
        return jnp.clip(ratio, 1 - self.clip, 1 + above)
