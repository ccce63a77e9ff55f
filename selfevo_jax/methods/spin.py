"""Self-play: what is written in D_QA and D_meta is to win against the model's own answers to the same prompts.

Source: Chen et al., "Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models", arXiv 2401.01335.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from selfevo_jax.chains import Candidate, Rollout
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.methods import preferences as p
from selfevo_jax.methods.answers import Answer
from selfevo_jax.methods.base import Learning, Made
from selfevo_jax.methods.iterative_dpo import IterativeDpo
from selfevo_jax.methods.unjudged import Unjudged
from selfevo_jax.text import PromptFormat
from selfevo_jax.train.objectives.pairs import SIDE


@dataclass(frozen=True)
class Spin(Unjudged, IterativeDpo):
    """Rounds ask the prompts of D_QA and D_meta (`rounds.prompts: answered`). The better answer of a pair is the one
    written there, the worse one the model's own. Nothing is judged."""

    name: str = "spin"
    settings: ClassVar[tuple[str, ...]] = ()
    carries: ClassVar[tuple[str, ...]] = (SIDE,)
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns", "rounds.prompts")

    def _check_compared(self) -> None:
        if SIDE not in self.objective.reads:
            raise ConfigError(
                f"learn.objective.name: found {self.objective.name}, but {self.name} learns pairs; set it to dpo"
            )

    def learning(self, made: Made, round: int) -> Learning:
        written = written_answers(made)
        pairs, left = list[p.Pair](), p.LeftOut()
        for number in self.pooled(round):
            own = [Answer(r, r.chosen) for r in self.select(made.rollouts(number), number).kept]
            against = [p.Pair(written[a.rollout.prompt], a) for a in own if a.rollout.prompt in written]
            found, others = p.usable_pairs(against, self.config.rounds.per_prompt)
            pairs, left = [*pairs, *self.faded(found, number, round)], left + others
        if not pairs:
            raise EmptySelectionError(
                f"round {round}: no answer of the model differs from what is written; it is not trained. Give more "
                "rows of D_QA, or end the run here"
            )
        told = p.told_of(pairs, left)
        return self.lesson(made, round, self.units(pairs, made.format), self.objective.reads, told)


def written_answers(made: Made) -> Mapping[str, Answer]:
    """Prompt -> what D_QA, or else the first row of D_meta about it, has as its answer."""
    rows = [(row.id, row.prompt, row.refinement) for row in reversed(made.meta_rows())]
    rows += [(row.id, row.prompt, row.answer) for row in reversed(made.qa_rows())]
    return {prompt: _written(id, prompt, text, made.format) for id, prompt, text in rows}


def _written(id: str, prompt: str, text: str, fmt: PromptFormat) -> Answer:
    tokens = tuple(fmt.continuation(fmt.respond(prompt), text))
    return Answer(Rollout(id, 0, prompt, (Candidate(text, "stop", tokens, end=tuple(fmt.end)),), 0), 0)
