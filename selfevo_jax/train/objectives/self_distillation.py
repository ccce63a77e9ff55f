"""The model that has read the feedback teaches the model that has not, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from selfevo_jax.train.objectives.base import TEACHER_IDS, TEACHER_LOGPS, Targets
from selfevo_jax.train.objectives.checks import check_choice, check_count

TAUGHT = "taught"
"""The extra that says whether an example is learnt from its teacher (1), or as it is, by -log-probability (0)."""
_LEAST = 1e-6
"""Of the rest: below it the difference to 1 is rounding."""


@dataclass(frozen=True)
class SelfDistillation:
    """How far the model's distribution S of a target is from T, that of the example's teacher: the same model at the
    start of the fine-tuning, which reads the target behind the feedback on it. The mean over targets, by their weights.

    T and S are over the K tokens that the teacher holds likeliest and all others together. Sources: Huebotter et al.
    (SDPO), arXiv 2601.20802; for the forms Agarwal et al. (GKD), arXiv 2306.13649.
    """

    form: str = "reverse"
    """`forward` KL(T || S), `reverse` KL(S || T), or `jensen_shannon`, the mean of both against (T + S) / 2."""
    top_k: int = 16
    """K; what is stored grows with it."""

    name: ClassVar[str] = "self_distillation"
    reads: ClassVar[tuple[str, ...]] = (TAUGHT, TEACHER_IDS, TEACHER_LOGPS)
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_choice(self.name, "form", self.form, ("forward", "reverse", "jensen_shannon"))
        check_count(self.name, "top_k", self.top_k)

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        teacher, student = _with_rest(targets.extras[TEACHER_LOGPS]), _with_rest(logps[:, :, 1:])
        by_token = jnp.where(targets.extras[TAUGHT] > 0, self._apart(teacher, student), -logps[:, :, 0])
        return (targets.weights * by_token).sum(), targets.weights.sum()

    def _apart(self, teacher: jax.Array, student: jax.Array) -> jax.Array:
        if self.form == "forward":
            return _kl(teacher, student)
        if self.form == "reverse":
            return _kl(student, teacher)
        between = jnp.logaddexp(teacher, student) - jnp.log(2.0)
        return (_kl(teacher, between) + _kl(student, between)) / 2


def _with_rest(logps: jax.Array) -> jax.Array:
    """Log-probabilities of K tokens, and of all others together `[..., K + 1]`."""
    rest = jnp.maximum(1 - jnp.exp(logps).sum(axis=-1, keepdims=True), _LEAST)
    return jnp.concatenate([logps, jnp.log(rest)], axis=-1)


def _kl(of: jax.Array, against: jax.Array) -> jax.Array:
    return (jnp.exp(of) * (of - against)).sum(axis=-1)
