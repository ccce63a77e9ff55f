"""Two answers to each prompt, and a judgement that sees both: the better one is learnt.

After Irving et al., "AI safety via debate", arXiv 1805.00899, without further turns: each side has its answer alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from selfevo_jax.chains import RefineChain, Rollout, StageParams, TwoAnswersChain
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.base import Bench, Draws
from selfevo_jax.methods.checks import without
from selfevo_jax.methods.scored import winners
from selfevo_jax.methods.selection import Selection, select
from selfevo_jax.methods.self_refine import SelfRefine


@dataclass(frozen=True)
class Debate(SelfRefine):
    """A batch judge that compares (`pairwise`, by the model itself or a server) is shown both answers in both orders;
    where it does not agree with itself neither is kept."""

    name: str = "debate"
    refines: ClassVar[bool] = False
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns",)

    def __post_init__(self) -> None:
        """Raises ConfigError for a judge that does not compare, and two answers that would be the same."""
        super().__post_init__()
        batch = self.config.judge.batch
        if batch is None or not batch.compares:
            shown = "none" if batch is None else batch.kind
            raise ConfigError(f"judge.batch.kind: found {shown}, but {self.name} compares answers; set it to pairwise")
        if self.config.sampling.respond.temperature == 0:
            raise ConfigError(
                f"sampling.respond.temperature: found 0, but {self.name} draws two answers to each prompt, which would "
                "be the same; set it above 0"
            )

    @property
    def reads(self) -> dict[str, str]:
        return without(super().reads, "rounds.select", "rounds.pass_rate", "judge.top_share", "judge.batch.ties")

    @property
    def draws(self) -> Draws:
        return Draws(respond=2)

    def chain(self, bench: Bench, row: Any, stages: StageParams, *, round: int, sample: int) -> RefineChain:
        kind, stage = TwoAnswersChain, "second"
        return bench.chain(
            row, stages, round=round, sample=sample, judge=False, kind=kind, second=row.prompt, stage=stage
        )

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        rounds, seed = self.config.rounds, self.config.seed_of(round)
        return select(rollouts, "feedback", seed, rounds.per_prompt, None, winners)
