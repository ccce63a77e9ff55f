"""SELF: the model answers, criticises and refines; what its own feedback lets through is learnt.

Source: Lu et al., "SELF: Self-Evolution with Language Feedback", arXiv 2310.00533.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from selfevo_jax.chains import RefineChain, Rollout, StageParams
from selfevo_jax.config import Config
from selfevo_jax.data import Example, Unit
from selfevo_jax.methods.base import BASE, Bench, Draws, Learning, Made
from selfevo_jax.methods.checks import (
    JUDGED,
    REPLAY,
    check_batch_judge,
    check_drawn,
    check_fixed,
    check_pass_rate,
    check_read,
    check_selection,
)
from selfevo_jax.methods.lessons import self_pool, supervised_examples
from selfevo_jax.methods.mixture import SELF, Row, faded
from selfevo_jax.methods.scored import by_score
from selfevo_jax.methods.selection import Selection, select


@dataclass(frozen=True)
class SelfRefine:
    """`rounds.turns`, `rounds.select`, `rounds.variant`, `rounds.pool` and `rounds.per_prompt` are its settings."""

    config: Config
    name: str = "self_refine"
    reads_labels: bool = False
    settings: ClassVar[tuple[str, ...]] = ()
    """Names of what `method.settings` may hold."""
    compares: ClassVar[bool] = False
    """Whether it learns better answers beside worse ones."""
    refines: ClassVar[bool] = True
    """Whether a second answer of a chain is a refinement of the first."""
    carries: ClassVar[tuple[str, ...]] = ()
    """Numbers that its examples carry for an objective, beside those that a fine-tuning makes itself."""
    fixed: ClassVar[tuple[str, ...]] = ()
    """Keys of the config that have the value of `selfevo_jax.config.methods`, and no other."""

    def __post_init__(self) -> None:
        """Raises ConfigError for settings with which there is nothing to do."""
        check_fixed(self.config, self.name, self.fixed)
        if self.config.rounds.number > 0:
            check_read(self.config, self.name, dict.fromkeys(self.fixed, "") | self.reads)
        check_selection(self.config, self.name, self.compares)
        check_drawn(self.config, self.draws.feedback > 0)
        check_pass_rate(self.config)
        check_batch_judge(self.config, self.name, self.refines)

    @property
    def reads(self) -> dict[str, str]:
        """The keys that it reads of those that not every method reads (see `check_read`)."""
        rounds = self.config.rounds
        # a judge that compares says of no response that it is good
        compared = "judge.batch.kind pairwise" if self.config.judge.pairwise else ""
        judged = "" if self.judges else "rounds.turns 0 and rounds.select none"
        ranked = "" if rounds.select in ("feedback", "random") else f"rounds.select {rounds.select}"
        return {
            **dict.fromkeys(("rounds.turns", "rounds.select", "rounds.per_prompt"), ""),
            "rounds.pass_rate": compared,
            "judge.top_share": ranked,
            **dict.fromkeys(JUDGED, judged),
            "rounds.controls_warn_above": judged or ("rounds.controls 0" if rounds.controls == 0 else ""),
            **dict.fromkeys((f"method.settings.{key}" for key in self.settings), ""),
            **self.replay_reads,
        }

    @property
    def replay_reads(self) -> dict[str, str]:
        """Of `reads` those about D_meta and D_QA."""
        data, variant = self.config.data, self.config.rounds.variant
        alone = f"rounds.variant {variant}" if variant == "continual_self_only" else ""
        none = alone or ("learn.meta_share 0" if self.config.learn.meta_share == 0 else "")
        meta = "" if data.has_meta else "no D_meta"
        qa = "" if data.qa is not None or data.instructions is not None or data.task is not None else "no D_QA"
        return {
            **dict.fromkeys(REPLAY, none or meta),
            "learn.qa_share": none or meta or qa,
            "learn.meta_share": alone or (meta and qa),
        }

    @property
    def judges(self) -> bool:
        return self.config.rounds.judges

    @property
    def draws(self) -> Draws:
        turns = self.config.rounds.turns
        return Draws(feedback=1 + turns, refine=turns) if self.judges else Draws()

    @property
    def filters(self) -> bool:
        return self.config.rounds.select != "none"

    @property
    def keeps_base(self) -> bool:
        return self.config.rounds.variant == "restart"

    def chain(self, bench: Bench, row: Any, stages: StageParams, *, round: int, sample: int) -> RefineChain:
        # a judge that compares needs a refinement, also of what the chain's own feedback calls good
        stops = bench.batch is None or not bench.batch.compares
        return bench.chain(row, stages, round=round, sample=sample, judge=self.judges, stop_when_good=stops)

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        rounds, seed = self.config.rounds, self.config.seed_of(round)
        of_judge, scored = self.config.judge.top_share, by_score(rounds, round)
        return select(rollouts, rounds.select, seed, rounds.per_prompt, of_judge, scored, rounds.pass_rate)

    def learning(self, made: Made, round: int) -> Learning:
        """D_self of this round or of all so far, with D_meta and D_QA, by the variant."""
        learnt = [
            row for n in self.pooled(round) for row in self.faded(self.select(made.rollouts(n), n).kept, n, round)
        ]
        groups = {SELF: self_pool(learnt, made.format), **self.replayed(made)}
        endless = sum(not made.format.ends(r.candidates[r.chosen].end) for r in learnt)
        told = (
            f"{endless} of {len(learnt)} kept answers are taught without an end: a run-on was cut, or a stop string "
            "ended them",
        )
        return Learning(BASE if self.keeps_base else round - 1, groups, told if endless else ())

    def lesson(self, made: Made, round: int, units: Sequence[Unit], reads: Sequence[str], told: str) -> Learning:
        """Of answers that are compared, or weighed: from the checkpoint before on, with D_meta and D_QA as they are
        beside them, of which all numbers that the objective reads are 0."""
        replayed = {
            name: [replace(example, extras=dict.fromkeys(reads, 0.0)) for example in examples]
            for name, examples in self.replayed(made).items()
        }
        return Learning(round - 1, {SELF: units, **replayed}, (told,))

    def pooled(self, round: int) -> list[int]:
        """The rounds whose rows a round learns from, the newest first: of equal rows the first one is taken."""
        return [round, *(range(1, round) if self.config.rounds.pools_all else ())]

    def faded(self, rows: Sequence[Row], of: int, round: int) -> list[Row]:
        """What a round learns of the rows of one of the `pooled` rounds."""
        return faded(rows, self.config.rounds.decay, round - of, f"{self.config.seed} {of}")

    def replayed(self, made: Made) -> dict[str, list[Example]]:
        """D_meta and D_QA, where the variant mixes them in."""
        section = self.config.learn
        if self.config.rounds.variant == "continual_self_only" or section.meta_share == 0:
            return {}
        return supervised_examples(made.meta_rows(), made.qa_rows(), made.format, section)
