"""The model that has read its feedback teaches the model that has not, token by token, on its own answers.

Source: Huebotter et al. (SDPO), arXiv 2601.20802.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from selfevo_jax.chains import Rollout
from selfevo_jax.data import Example, feedback_context, taught_example
from selfevo_jax.errors import EmptySelectionError
from selfevo_jax.methods.answers import Answer
from selfevo_jax.methods.base import Learning, Made
from selfevo_jax.methods.checks import check_shown, without
from selfevo_jax.methods.scored import Taken
from selfevo_jax.methods.selection import Selection, select
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.text import PromptFormat
from selfevo_jax.train.objectives.self_distillation import TAUGHT, SelfDistillation


@dataclass(frozen=True)
class Sdpo(SelfRefine):
    """Responses are judged and not refined. Every response with feedback that can be read is learnt, good or bad: its
    tokens get the distribution that they have where the chain would refine it, behind its feedback. From the checkpoint
    before on, which is the teacher."""

    name: str = "sdpo"
    carries: ClassVar[tuple[str, ...]] = (TAUGHT,)
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns", "rounds.pool", "rounds.variant", "learn.objective.name")

    def __post_init__(self) -> None:
        """Raises ConfigError for feedback whose request is not known."""
        super().__post_init__()
        check_shown(self.config, self.name)

    @property
    def reads(self) -> dict[str, str]:
        return without(super().reads, "rounds.select", "judge.top_share", "judge.batch", "judge.batch.ties")

    @property
    def filters(self) -> bool:
        return False

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        rounds, seed = self.config.rounds, self.config.seed_of(round)
        return select(rollouts, "none", seed, rounds.per_prompt, None, with_feedback, rounds.pass_rate)

    def learning(self, made: Made, round: int) -> Learning:
        units = [taught(Answer(row, 0), made.format) for row in self.select(made.rollouts(round), round).kept]
        fit = [unit for unit in units if unit.teacher is None or len(unit.teacher) <= self.config.learn.length]
        left = f"; {long} with their feedback are longer than learn.length" if (long := len(units) - len(fit)) else ""
        told = f"{len(fit)} answers are learnt from{left}"
        if not fit:
            raise EmptySelectionError(f"round {round}: {told}; raise learn.length, or give more prompts")
        return self.lesson(made, round, fit, SelfDistillation.reads, told)


def with_feedback(rows: Sequence[Rollout]) -> Taken:
    """Each whole response with feedback that can be read."""
    whole = [answer for row in rows if (answer := Answer(row, 0)).usable]
    read = [a for a in whole if a.candidate.feedback is not None and a.candidate.feedback.good is not None]
    return Taken([replace(answer.rollout, chosen=0) for answer in read], len(whole) - len(read))


def taught(answer: Answer, fmt: PromptFormat) -> Example:
    """A response as a direct answer, and behind its feedback as its teacher."""
    made, r = answer.candidate, answer.rollout
    end = made.end if fmt.ends(made.end) else ()
    said = () if made.feedback is None else made.feedback.tokens
    context = feedback_context(r.prompt, made.tokens, said, fmt)
    example = taught_example(f"{r.id}/{r.sample}", r.prompt, made.tokens, end, context, fmt)
    return replace(example, extras={TAUGHT: 1.0})
