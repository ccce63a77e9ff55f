"""Policy gradients on a round's own samples: each answer counts by how much better than the others of its prompt it is.

Source: Shao et al. (GRPO), arXiv 2402.03300; its relatives are settings of the objective. The reward is the model's own
score; with `judge.batch.kind: scorer` it is that of gold answers, and a run says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from selfevo_jax.chains import Rollout
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.methods import preferences as p
from selfevo_jax.methods.answers import Answer, scored_samples
from selfevo_jax.methods.base import Learning, Made
from selfevo_jax.methods.checks import check_samples, without
from selfevo_jax.methods.scored import extreme_weights
from selfevo_jax.methods.selection import Selection, keeping, within
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.train.objectives.grpo import ADVANTAGE, DRAWN, Grpo


@dataclass(frozen=True)
class GroupPolicy(SelfRefine):
    """Whole groups of samples are learnt, good ones and bad ones, from the checkpoint that drew them on. Cut ones, and
    those without a score, are in no group; a group of equal scores teaches nothing. With `rounds.select: extremes`
    answers count by `rounds.extremes` (PF-PPO, arXiv 2409.06957)."""

    name: str = "grpo"
    compares: ClassVar[bool] = True
    carries: ClassVar[tuple[str, ...]] = (ADVANTAGE, DRAWN)
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns", "rounds.pool", "rounds.variant", "learn.objective.name")

    def __post_init__(self) -> None:
        """Raises ConfigError for samples that are not compared."""
        super().__post_init__()
        found = self.config.rounds.select
        if found not in ("feedback", "extremes"):
            told = f"found {found}, but {self.name} learns groups; set it to feedback, or to extremes"
            raise ConfigError(f"rounds.select: {told}")
        check_samples(self.config)

    @property
    def reads(self) -> dict[str, str]:
        return without(super().reads, "rounds.per_prompt", "judge.top_share")

    def groups(self, rollouts: Sequence[Rollout]) -> Iterator[list[tuple[Answer, float]]]:
        """The answers to each prompt with their advantages, in the order of the prompts."""
        settings: dict[str, Any] = dict(self.config.learn.objective.settings)
        objective, rounds = Grpo(**settings), self.config.rounds
        rows = within(rollouts, rounds.pass_rate)
        for scored in scored_samples(rows).values():
            scores = [score for score, _ in scored]
            weights = extreme_weights(scores, rounds.extremes) if rounds.select == "extremes" else [1.0] * len(scores)
            mean = sum(weights) / sum(weight > 0 for weight in weights)
            found = zip(scored, objective.advantages(scores), weights, strict=True)
            yield [(answer, gain * weight / mean) for (_, answer), gain, weight in found]

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        """The answers with an advantage, for better or worse."""
        kept = [replace(a.rollout, chosen=a.index) for of in self.groups(rollouts) for a, gain in of if gain]
        return keeping(super().select(rollouts, round), kept, 0, 0)

    def learning(self, made: Made, round: int) -> Learning:
        groups = list(self.groups(made.rollouts(round)))
        learnt = [(answer, gain) for of in groups for answer, gain in of if gain]
        equal = sum(not any(gain for _, gain in of) for of in groups)
        told = f"{len(learnt)} answers to {len(groups) - equal} prompts are learnt from; to {equal} all score the same"
        if not learnt:
            raise EmptySelectionError(f"round {round}: {told}; more samples of a prompt, or other prompts, may help")
        fmt = made.format
        ends = [fmt.ends(answer.candidate.end) for answer, _ in learnt]
        units = [
            p.learnt(a, a.rollout.prompt, end, fmt, {ADVANTAGE: gain, DRAWN: 1.0})
            for (a, gain), end in zip(learnt, ends, strict=True)
        ]
        return self.lesson(made, round, units, Grpo.reads, told)
