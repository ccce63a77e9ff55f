"""Imitation learning from language feedback: of several refinements of one feedback the best is learnt.

Source: Scheurer et al., "Training Language Models with Language Feedback at Scale", arXiv 2303.16755. The feedback is
the model's own, and its second feedback ranks the refinements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from selfevo_jax.chains import RefineChain, RefinementsChain, Rollout, StageParams
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.base import Bench, Draws
from selfevo_jax.methods.checks import without
from selfevo_jax.methods.scored import best_refinements
from selfevo_jax.methods.selection import Selection, select
from selfevo_jax.methods.self_refine import SelfRefine


@dataclass(frozen=True)
class Ilf(SelfRefine):
    """As `self_refine`, with `refinements` of each response that is called bad. Refinements alone are learnt, of a
    prompt `rounds.per_prompt` at most."""

    refinements: int = 4
    name: str = "ilf"
    settings: ClassVar[tuple[str, ...]] = ("refinements",)
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns",)

    def __post_init__(self) -> None:
        """Raises ConfigError where the refinements would be one, or all the same."""
        super().__post_init__()
        found = self.refinements
        if isinstance(found, bool) or not isinstance(found, int) or found < 2:
            raise ConfigError(f"method.settings.refinements: found {found!r}, expected a whole number of 2 or more")
        if self.config.judge.pairwise:
            raise ConfigError(
                f"judge.batch.kind: pairwise compares one refinement with its response, but {self.name} chooses among "
                f"{found}; set judge.batch to null"
            )
        if self.config.sampling.refine.temperature == 0:
            raise ConfigError(
                f"sampling.refine.temperature: found 0, but {self.name} draws {found} refinements of one feedback, "
                "which would all be the same; set it above 0"
            )

    @property
    def reads(self) -> dict[str, str]:
        return without(super().reads, "rounds.select", "judge.top_share")

    @property
    def draws(self) -> Draws:
        return Draws(feedback=1 + self.refinements, refine=self.refinements)

    def chain(self, bench: Bench, row: Any, stages: StageParams, *, round: int, sample: int) -> RefineChain:
        kind, m = RefinementsChain, self.refinements
        return bench.chain(row, stages, round=round, sample=sample, kind=kind, refinements=m)

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        rounds, seed = self.config.rounds, self.config.seed_of(round)
        return select(rollouts, "feedback", seed, rounds.per_prompt, None, best_refinements, rounds.pass_rate)
