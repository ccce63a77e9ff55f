"""Objectives on lists: several answers to one prompt, compared with each other.

A list is a group (`Group`) of examples whose `place` counts them from 1 on, in this order; `value` is what each is
worth. Examples with `place` 0 are learnt beside them as they are, by the mean of -log-probability over their targets.
The loss is a mean over lists and such examples, each of which counts as one.

Notation: s is the log-probability of an answer, m that by token, d is s less its reference, R its value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from selfevo_jax.train.objectives.base import REFERENCE, Sequences, Targets
from selfevo_jax.train.objectives.checks import check, check_flag
from selfevo_jax.train.objectives.pairs import SIDE

PLACE, VALUE = "place", "value"
"""Extras: the place of an answer in its list, from 1 on, 0 for none; and its value, the higher the better."""
_LOW = -1e30


@flax.struct.dataclass
class Lists:
    """The answers of a micro-batch, `[B, S]`; all is 0 where there is none, but `size` is 1."""

    member: jax.Array
    """1 for an answer of a list."""
    place: jax.Array
    number: jax.Array
    """Of the list in its row, from 1 on."""
    logp: jax.Array
    size: jax.Array
    extras: dict[str, jax.Array]

    @classmethod
    def of(cls, found: Sequences) -> Lists:
        place = found.extras[PLACE]
        member = found.there * (place > 0)
        extras = {name: jnp.where(member > 0, values, 0.0) for name, values in found.extras.items()}
        number = jnp.cumsum(place == 1, axis=1)
        size = jnp.where(member > 0, found.weights, 1.0)
        return cls(member, place, number, jnp.where(member > 0, found.logps, 0.0), size, extras)

    @property
    def gain(self) -> jax.Array:
        """d."""
        return self.logp - self.extras[REFERENCE]

    @property
    def first(self) -> jax.Array:
        """1 for the first answer of each list."""
        return self.member * (self.place == 1)

    @property
    def same(self) -> jax.Array:
        """bool `[B, S, S]`: whether two answers are of one list."""
        both = (self.member[:, :, None] * self.member[:, None, :]) > 0
        return both & (self.number[:, :, None] == self.number[:, None, :])

    def total(self, values: jax.Array) -> jax.Array:
        """For each answer the sum of `values` over its list."""
        return jnp.where(self.same, values[:, None, :], 0.0).sum(axis=2)


class ListObjective:
    """What all objectives on lists share."""

    linear: ClassVar[bool] = False

    def of_lists(self, lists: Lists) -> jax.Array:
        """`[B, S]`, of which the answers of a list add up to its loss."""
        raise NotImplementedError

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        found = targets.sequences(logps)
        lists, alone = Lists.of(found), found.there * (found.extras[PLACE] == 0)
        by_answer = jnp.where(lists.member > 0, self.of_lists(lists), 0.0)
        return (by_answer + alone * found.mean_nll).sum(), (lists.first + alone).sum()


@dataclass(frozen=True)
class Pro(ListObjective):
    """Ranked answers, the best one first: each is held against all behind it. The sum over places k of
    -log(exp(m_k T_k) / (exp(m_k T_k) + sum over j behind k of exp(m_j T_kj))), with T_kj = R_k - R_j and T_k the
    largest of them, + sft_weight (n - 1) squared times -s of the best of n. Source: Song et al. (preference ranking
    optimization), arXiv 2306.17492."""

    sft_weight: float = 0.05
    by_value: bool = True
    """Whether T comes from values; else it is 1, for answers of which the order alone is known."""

    name: ClassVar[str] = "pro"
    reads: ClassVar[tuple[str, ...]] = (PLACE, VALUE)

    def __post_init__(self) -> None:
        check(self.name, "sft_weight", self.sft_weight, 0, least=True)
        check_flag(self.name, "by_value", self.by_value)

    def of_lists(self, lists: Lists) -> jax.Array:
        mean, value = lists.logp / lists.size, lists.extras[VALUE]
        behind = lists.same & (lists.place[:, None, :] > lists.place[:, :, None])
        apart = value[:, :, None] - value[:, None, :] if self.by_value else jnp.ones_like(behind, jnp.float32)
        own = mean * jnp.max(jnp.where(behind, apart, 0.0), axis=2)
        others = jnp.where(behind, mean[:, None, :] * apart, _LOW)
        top = jax.lax.stop_gradient(jnp.maximum(own, others.max(axis=2)))
        total = jnp.exp(own - top) + jnp.where(behind, jnp.exp(others - top[:, :, None]), 0.0).sum(axis=2)
        size = lists.total(lists.member)
        return jnp.log(total) + top - own - lists.first * self.sft_weight * jnp.square(size - 1) * lists.logp


@dataclass(frozen=True)
class D2o(ListObjective):
    """Answers known to be bad (`side` -1) against the model's other answers to the prompt (`side` 1):
    -log sigmoid(beta times the mean d of these - alpha times that of the bad ones). Source: Duan et al. (negating
    negatives), arXiv 2403.03419, with the parameters at the start as both of its references."""

    beta: float = 0.1
    alpha: float = 0.1

    name: ClassVar[str] = "d2o"
    reads: ClassVar[tuple[str, ...]] = (PLACE, SIDE, REFERENCE)

    def __post_init__(self) -> None:
        check(self.name, "beta", self.beta, 0)
        check(self.name, "alpha", self.alpha, 0)

    def of_lists(self, lists: Lists) -> jax.Array:
        side = lists.extras[SIDE]

        def mean(of: jax.Array) -> jax.Array:
            return lists.total(of * lists.gain) / jnp.maximum(lists.total(of), 1.0)

        score = self.beta * mean(lists.member * (side > 0)) - self.alpha * mean(lists.member * (side < 0))
        return lists.first * -jax.nn.log_sigmoid(score)


@dataclass(frozen=True)
class Copg(ListObjective):
    """1 / (n - 1) times the sum over pairs of a list of n of the squared difference of R - beta d: a policy gradient
    that needs no ratios off its policy, and is RLOO on it. Source: Flet-Berliac et al. (contrastive policy gradient),
    arXiv 2406.19185."""

    beta: float = 0.1
    """d is a sum over tokens: the longer the answers, the lower."""

    name: ClassVar[str] = "copg"
    reads: ClassVar[tuple[str, ...]] = (PLACE, VALUE, REFERENCE)

    def __post_init__(self) -> None:
        check(self.name, "beta", self.beta, 0)

    def of_lists(self, lists: Lists) -> jax.Array:
        score, size = lists.extras[VALUE] - self.beta * lists.gain, lists.total(lists.member)
        centred = score - lists.total(score) / jnp.maximum(size, 1.0)
        # the squared differences of all pairs of n numbers are n times the squares of these
        return jnp.square(centred) * size / jnp.maximum(size - 1, 1.0)
