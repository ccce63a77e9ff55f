"""Iterative preference learning: each round makes pairs of better and worse answers out of its own chains.

Source: Dong et al., "RLHF Workflow", arXiv 2405.07863 (pairs of each round's own samples; the checkpoint before is
start and reference), with the pairs that a chain of SELF gives for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from selfevo_jax.chains import Rollout
from selfevo_jax.data import Unit
from selfevo_jax.errors import ConfigError, EmptySelectionError, Faults
from selfevo_jax.methods import preferences as p
from selfevo_jax.methods.base import Learning, Made
from selfevo_jax.methods.checks import check_pairs, without
from selfevo_jax.methods.selection import Selection, keeping, within
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.text import PromptFormat
from selfevo_jax.train import Objective, open_objective
from selfevo_jax.train.objectives.kto import MISMATCHED, VERDICT
from selfevo_jax.train.objectives.pairs import SIDE
from selfevo_jax.train.objectives.xpo import OF_REFERENCE


@dataclass(frozen=True)
class IterativeDpo(SelfRefine):
    """As `self_refine`, but what is learnt are pairs: a refinement called good over the response called bad, and the
    best over the worst of a prompt's samples. With an objective on single answers (`kto`) every answer with a verdict
    is learnt. D_meta is learnt beside them as it is, so that the critic is not forgotten.

    With `judge.batch.kind: pairwise` there are no pairs of samples: a response is held against its own refinement, and
    not against the others. Of single answers the one that won is good then, and the other one bad; a response that its
    refinement ties with is neither."""

    pairs: str = "both"
    name: str = "iterative_dpo"
    settings: ClassVar[tuple[str, ...]] = ("pairs",)
    compares: ClassVar[bool] = True
    carries: ClassVar[tuple[str, ...]] = (SIDE, OF_REFERENCE, VERDICT, MISMATCHED)

    def __post_init__(self) -> None:
        """Raises ConfigError for settings with which there is nothing to compare."""
        super().__post_init__()
        rounds, faults = self.config.rounds, Faults()
        if rounds.variant == "restart":
            told = f"found restart, but {self.name} starts from the checkpoint before; set it to continual_mixed"
            faults.add(ConfigError(f"rounds.variant: {told}"))
        if rounds.select not in ("feedback", "extremes"):
            told = f"found {rounds.select}, but verdicts make pairs; set it to feedback, or to extremes"
            faults.add(ConfigError(f"rounds.select: {told}"))
        faults.refuse()
        self._check_compared()

    def _check_compared(self) -> None:
        reads, name = self.objective.reads, self.objective.name
        if not {SIDE, VERDICT} & {*reads}:
            raise ConfigError(
                f"learn.objective.name: found {name}, but {self.name} learns pairs; set it to dpo, or another "
                "objective on pairs or on single answers (kto)"
            )
        check_pairs(self.config, self.pairs, SIDE in reads)

    @property
    def objective(self) -> Objective:
        return open_objective(self.config.learn.objective)

    @property
    def reads(self) -> dict[str, str]:
        config, extreme = self.config, self.config.rounds.select == "extremes"
        single = f"learn.objective.name {self.objective.name}" if VERDICT in self.objective.reads else ""
        refined = "method.settings.pairs refinement" if self.pairs == "refinement" else ""
        beside = "judge.batch.kind pairwise" if config.judge.pairwise else ""
        one = "data.samples_per_prompt 1" if config.data.samples_per_prompt == 1 else ""
        # of single answers none is chosen, and without samples none is the best or the worst
        found = {
            "rounds.select": (single or refined or beside or one) if extreme else "",
            "rounds.per_prompt": single,
            "method.settings.pairs": single,
        }
        return without(super().reads, "judge.top_share") | found

    def found(self, rollouts: Sequence[Rollout]) -> tuple[list[p.Pair], p.LeftOut]:
        """The pairs of a round, in the order of its prompts."""
        rounds = self.config.rounds
        rows = within(rollouts, rounds.pass_rate)
        refined = p.refinement_pairs(rows) if self.pairs != "samples" else ()
        samples = self.pairs != "refinement" and not self.config.judge.pairwise
        sampled = p.sample_pairs(rows, rounds.extremes, self.config.seed) if samples else ()
        return p.usable_pairs([*refined, *sampled], rounds.per_prompt)

    def units(self, pairs: Sequence[p.Pair], fmt: PromptFormat) -> Sequence[Unit]:
        """What is learnt of the pairs."""
        return p.pair_groups(pairs, fmt, self.objective.reads)

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        """The better answers; the worse ones are in the rollouts."""
        by_feedback = super().select(rollouts, round)
        if VERDICT in self.objective.reads:
            return by_feedback
        pairs, left = self.found(rollouts)
        better = {(a.rollout.id, a.rollout.sample): a for a in (pair.better for pair in reversed(pairs))}
        kept = [replace(a.rollout, chosen=a.index) for _, a in sorted(better.items())]
        return keeping(by_feedback, kept, left[p.REPEATED], left[p.OVER_CAP])

    def learning(self, made: Made, round: int) -> Learning:
        """This round's pairs (or answers), or those of all so far, with D_meta and D_QA beside them."""
        rounds, objective = {number: made.rollouts(number) for number in self.pooled(round)}, self.objective
        units: Sequence[Unit]
        if VERDICT in self.objective.reads:
            rate = self.config.rounds.pass_rate
            rows = {number: within(rollouts, rate) for number, rollouts in rounds.items()}
            if self.config.judge.pairwise:
                rows = {number: list(map(p.with_winners, of_round)) for number, of_round in rows.items()}
            judged = {number: p.judged_answers(of_round) for number, of_round in rows.items()}
            answers = [a for number, of_round in judged.items() for a in self.faded(of_round, number, round)]
            told, both = p.told_of_verdicts(answers)
            if not both:
                raise EmptySelectionError(f"round {round}: {told}; {objective.name} needs both. Give more prompts")
            units = p.verdict_groups(answers, made.format)
        else:
            found = {number: self.found(rollouts) for number, rollouts in rounds.items()}
            pairs = [pair for n, (of_round, _) in found.items() for pair in self.faded(of_round, n, round)]
            left = sum((left for _, left in found.values()), p.LeftOut())
            told = p.told_of(pairs, left)
            units = self.units(pairs, made.format)
        return self.lesson(made, round, units, objective.reads, told)
