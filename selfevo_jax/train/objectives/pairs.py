"""Objectives on pairs: the margin of a better answer over a worse one, measured against the parameters at the start.

A pair is a group (`Group`) of two examples, the better one (`side` 1) directly before the worse one (`side` -1).
Examples with `side` 0 are learnt beside them as they are, by the mean of -log-probability over their targets. The loss
is a mean over pairs and such examples, each of which counts as one.

Notation: s is the log-probability of an answer, n its number of targets (both by their weights), d is s less its
reference, h the d of the better answer less that of the worse one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from selfevo_jax.errors import ConfigError
from selfevo_jax.train.objectives.base import REFERENCE, Sequences, Targets
from selfevo_jax.train.objectives.checks import check
from selfevo_jax.train.objectives.smoothing import CONTROLS, DEFAULT_SMOOTHING

SIDE = "side"
"""The extra that says what an example is: 1 the better answer of a pair, -1 the worse one, 0 neither."""


@flax.struct.dataclass
class Answers:
    """One side of the pairs of a micro-batch, `[B, S]`; where there is no pair all is 0, but `size` is 1."""

    logp: jax.Array
    """s."""
    gain: jax.Array
    """d; s where the objective reads no reference."""
    size: jax.Array
    """n."""

    @property
    def mean_gain(self) -> jax.Array:
        """d / n: of a token."""
        return self.gain / self.size


@dataclass(frozen=True)
class PairObjective:
    """What all objectives on pairs share."""

    beta: float = 0.1
    """Scales h (for `ipo` the margin aimed at falls with it): the lower, the further training may go from its start."""
    nll_weight: float = 0.0
    """Of the mean -log-probability of the better answer's targets, which is added to each pair's loss and keeps the
    better answer from becoming less probable itself (RPO, arXiv 2404.19733)."""

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = (SIDE, REFERENCE)
    linear: ClassVar[bool] = False
    shows: ClassVar[tuple[str, ...]] = ("better_logp", "worse_logp", "better_below_reference")
    """Mean s of the better answers and of the worse ones, and the share of the better ones with d below 0."""

    def __post_init__(self) -> None:
        check(self.name, "beta", self.beta, 0)
        check(self.name, "nll_weight", self.nll_weight, 0, least=True)

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        """The loss of each pair `[B, S]`, without the NLL term."""
        raise NotImplementedError

    def loss(self, logps: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
        found = targets.sequences(logps)
        pair, better, worse = self._pairs(found)
        alone, nll = found.there * (found.extras[SIDE] == 0), found.mean_nll
        by_pair = self.of_pairs(better, worse) + self.nll_weight * nll
        return (jnp.where(pair > 0, by_pair, 0.0) + alone * nll).sum(), (pair + alone).sum()

    def figures(self, logps: jax.Array, targets: Targets) -> jax.Array:
        """Of `shows`, over pairs."""
        pair, better, worse = self._pairs(targets.sequences(logps))
        by_pair = [better.logp, worse.logp, better.gain < 0][: len(self.shows)]
        return jnp.stack([jnp.stack([(pair * values).sum(), pair.sum()]) for values in by_pair])

    def _pairs(self, found: Sequences) -> tuple[jax.Array, Answers, Answers]:
        """1 where a pair is, and its two answers."""
        pair, answers = found.there * (found.extras[SIDE] > 0), self._answers(found)
        better, worse = (_masked(of, pair) for of in (answers, jax.tree.map(_next, answers)))
        return pair, better, worse

    def _answers(self, found: Sequences) -> Answers:
        start = found.extras[REFERENCE] if REFERENCE in self.reads else 0.0
        return Answers(found.logps, found.logps - start, found.weights)


def _next(values: jax.Array) -> jax.Array:
    """What the next sequence of the row has."""
    return jnp.roll(values, -1, axis=1)


def _masked(answers: Answers, pair: jax.Array) -> Answers:
    """What is no pair must not make a number that is not finite, not even in a gradient that is dropped."""
    logp, gain = (jnp.where(pair > 0, x, 0.0) for x in (answers.logp, answers.gain))
    return Answers(logp, gain, jnp.where(pair > 0, answers.size, 1.0))


@dataclass(frozen=True)
class Dpo(PairObjective):
    """-log sigmoid(beta h). Source: Rafailov et al., arXiv 2305.18290."""

    name: ClassVar[str] = "dpo"

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        return -jax.nn.log_sigmoid(self.beta * (better.gain - worse.gain))


@dataclass(frozen=True)
class DpoNorm(PairObjective):
    """-log sigmoid(beta (d/n of the better answer less that of the worse one)): the margin of a token, whatever the
    lengths. Source: Lambert et al. (Tulu 3), arXiv 2411.15124. Margins of a token are short: `beta` is best some times
    that of `dpo`."""

    name: ClassVar[str] = "dpo_norm"

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        return -jax.nn.log_sigmoid(self.beta * (better.mean_gain - worse.mean_gain))


@dataclass(frozen=True)
class _Smoothed(PairObjective):
    label_smoothing: float | str = DEFAULT_SMOOTHING
    """e: the share of pairs that are believed to be the wrong way round. `controls`: see `settled`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_smoothing != CONTROLS:
            check(self.name, "label_smoothing", self.label_smoothing, 0, 0.5, least=True)

    def _parts(self, better: Answers, worse: Answers) -> tuple[jax.Array, jax.Array]:
        """-(1 - e) log sigmoid(beta h), and -e log sigmoid(-beta h)."""
        if self.label_smoothing == CONTROLS:
            raise ConfigError(
                f"objective.settings.label_smoothing of {self.name}: only rounds have controls; give a number"
            )
        scaled, e = self.beta * (better.gain - worse.gain), float(self.label_smoothing)
        return -(1 - e) * jax.nn.log_sigmoid(scaled), -e * jax.nn.log_sigmoid(-scaled)


@dataclass(frozen=True)
class Cdpo(_Smoothed):
    """-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h): conservative DPO (Mitchell, 2023)."""

    name: ClassVar[str] = "cdpo"

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        right, wrong = self._parts(better, worse)
        return right + wrong


@dataclass(frozen=True)
class Robust(_Smoothed):
    """(-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e), unbiased where a share e of the pairs is the
    wrong way round. Source: Chowdhury et al., arXiv 2403.00409."""

    name: ClassVar[str] = "robust"

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        right, wrong = self._parts(better, worse)
        return (right - wrong) / (1 - 2 * float(self.label_smoothing))


@dataclass(frozen=True)
class Ipo(PairObjective):
    """(d/n of the better answer less that of the worse one - 1/(2 beta)) squared. Source: Azar et al., arXiv
    2310.12036; by token, as its authors' results are, where their formula sums."""

    name: ClassVar[str] = "ipo"

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        return jnp.square(better.mean_gain - worse.mean_gain - 1 / (2 * self.beta))


@dataclass(frozen=True)
class Hinge(PairObjective):
    """max(0, 1 - beta h). Source: Zhao et al. (SLiC), arXiv 2305.10425, on the margin of DPO."""

    name: ClassVar[str] = "hinge"

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        return jax.nn.relu(1 - self.beta * (better.gain - worse.gain))


@dataclass(frozen=True)
class ApoZero(PairObjective):
    """1 - sigmoid(beta d) of the better answer, + sigmoid(beta d) of the worse one: the one up, the other down. Source:
    D'Oosterlinck et al., arXiv 2408.06266."""

    name: ClassVar[str] = "apo_zero"

    def of_pairs(self, better: Answers, worse: Answers) -> jax.Array:
        return 1 - jax.nn.sigmoid(self.beta * better.gain) + jax.nn.sigmoid(self.beta * worse.gain)
