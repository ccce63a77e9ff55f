"""Lists of samples: all answers to a prompt, compared with each other by what they score.

Sources: Flet-Berliac et al. (CoPG), arXiv 2406.19185; Song et al. (PRO), arXiv 2306.17492; Duan et al. (D2O), arXiv
2403.03419. The value of an answer is the model's own score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from selfevo_jax.chains import Rollout
from selfevo_jax.data import Group
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.methods import preferences as p
from selfevo_jax.methods.answers import Answer, scored_samples
from selfevo_jax.methods.base import Learning, Made
from selfevo_jax.methods.checks import check_samples, without
from selfevo_jax.methods.selection import Selection, keeping, within
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.text import PromptFormat
from selfevo_jax.train import open_objective
from selfevo_jax.train.objectives.lists import PLACE, VALUE
from selfevo_jax.train.objectives.pairs import SIDE

Scored = list[tuple[float, Answer]]


@dataclass(frozen=True)
class ListPreferences(SelfRefine):
    """The whole samples of a prompt with a score are one list, the best first; from the checkpoint before on. Where all
    score the same there is nothing to compare. By `copg`, `pro` or `d2o`; for `d2o` what is called bad is to lose."""

    name: str = "list_preferences"
    compares: ClassVar[bool] = True
    carries: ClassVar[tuple[str, ...]] = (PLACE, VALUE, SIDE)
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns", "rounds.variant")

    def __post_init__(self) -> None:
        """Raises ConfigError for settings with which there is nothing to compare."""
        super().__post_init__()
        if PLACE not in self.compared:
            told = f"found {self.config.learn.objective.name}, but lists are compared; set it to copg, pro or d2o"
            raise ConfigError(f"learn.objective.name: {told}")
        check_samples(self.config)

    @property
    def reads(self) -> dict[str, str]:
        return without(super().reads, "rounds.select", "rounds.per_prompt", "judge.top_share")

    @property
    def compared(self) -> tuple[str, ...]:
        """The numbers of answers that the objective reads."""
        return open_objective(self.config.learn.objective).reads

    def lists(self, rollouts: Sequence[Rollout]) -> tuple[list[Scored], int]:
        """The best answer first, of equal ones the earliest; and to how many prompts all score the same."""
        rows = within(rollouts, self.config.rounds.pass_rate)
        found = [sorted(scored, key=lambda of: -of[0]) for scored in scored_samples(rows).values()]
        if SIDE in self.compared:
            apart = [of for of in found if len({answer.good for _, answer in of}) > 1]
        else:
            apart = [of for of in found if of[0][0] > of[-1][0]]
        return apart, len(found) - len(apart)

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        """The answers of lists, good and bad."""
        kept = [replace(a.rollout, chosen=0) for of in self.lists(rollouts)[0] for _, a in of]
        return keeping(super().select(rollouts, round), kept, 0, 0)

    def learning(self, made: Made, round: int) -> Learning:
        learnt, equal = list[Scored](), 0
        for number in self.pooled(round):
            found, same = self.lists(made.rollouts(number))
            learnt, equal = [*learnt, *self.faded(found, number, round)], equal + same
        told = f"{len(learnt)} lists are learnt from; of {equal} prompts all answers are equally good"
        if not learnt:
            raise EmptySelectionError(f"round {round}: {told}; more samples of a prompt, or other prompts, may help")
        units = [self._group(scored, made.format) for scored in learnt]
        return self.lesson(made, round, units, self.compared, told)

    def _group(self, scored: Scored, fmt: PromptFormat) -> Group:
        ends = all(fmt.ends(answer.candidate.end) for _, answer in scored)

        def extras(place: int, score: float, answer: Answer) -> Mapping[str, float]:
            every = {PLACE: float(place), VALUE: score, SIDE: 1.0 if answer.good else -1.0}
            return {name: every[name] for name in self.compared if name in every}

        members = enumerate(scored, start=1)
        return Group(tuple(p.learnt(a, a.rollout.prompt, ends, fmt, extras(n, score, a)) for n, (score, a) in members))
