"""How long the texts of a round are: what the config bounds, and what has to be assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selfevo_jax.config import Config
from selfevo_jax.methods import Draws, open_method

PROMPT, INSTRUCTION = 256, 32
JUDGE_PROMPT = 256
"""Tokens of what shows a batch judge two answers, without them."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of each text of a chain; completions as long as the config lets them be."""

    prompt: int
    instruction: int
    """Of what asks for feedback or a refinement."""
    respond: int
    feedback: int
    refine: int
    draws: Draws
    """How many of these texts a chain draws, by its method."""
    turns: int
    """Refinements behind each other in one text; others go on from a text that they share."""
    branches: int = 0
    """Further texts of feedback on each answer; one at a time is in the cache."""
    weighed: int = 0
    """Words behind each text of feedback whose probability is asked for, each in a short extend."""

    @classmethod
    def of(cls, config: Config, prompt: int | None = None) -> Lengths:
        """`prompt` tokens, by default 256 or what the completions leave of the cache."""
        s, judge, draws = config.sampling, config.judge, open_method(config).draws
        lengths = cls(
            0,
            INSTRUCTION,
            s.respond.max_new_tokens,
            s.feedback.max_new_tokens,
            s.refine.max_new_tokens,
            draws,
            min(config.rounds.turns, draws.refine),
            judge.texts - 1,
            judge.weighed,
        )
        room = s.cache_length - lengths.drawn - lengths.instruction * (lengths.extends - 1)
        return replace(lengths, prompt=prompt or max(8, min(PROMPT, room)))

    def measured(self, turns: int) -> Lengths:
        """Of the chain by which a checkpoint is measured, with so many refinements; 0: its response alone."""
        return replace(self, draws=Draws(feedback=1 + turns, refine=turns) if turns else Draws(), turns=turns)

    @property
    def drawn(self) -> int:
        """Tokens drawn for the longest text of a chain, with all its turns."""
        said = self.feedback if self.draws.feedback else 0
        return self.respond + said + self.turns * (self.refine + said)

    @property
    def drawn_in_all(self) -> int:
        """Tokens drawn for all texts of such a chain."""
        said = self.draws.feedback * (1 + self.branches)
        return self.draws.respond * self.respond + said * self.feedback + self.draws.refine * self.refine

    @property
    def extends(self) -> int:
        """Pieces that the longest text has in the cache: the prompt, and an instruction before each further
        completion."""
        said = 1 if self.draws.feedback else 0
        return 1 + said + self.turns * (1 + said)

    @property
    def short_extends(self) -> int:
        """Extends of a whole chain but for that of its prompt: the same prompt or another instruction before each
        further text, and words that are weighed."""
        said = self.draws.feedback * (1 + self.branches + self.weighed)
        return self.draws.respond - 1 + said + self.draws.refine

    @property
    def answer(self) -> int:
        """Of the longest answer that may be learnt."""
        return max(self.respond, self.refine if self.draws.refine else 0)

    @property
    def mean_context(self) -> float:
        """Positions that a drawn token attends to, in the middle of its chain."""
        return self.prompt + (self.drawn + self.instruction * (self.extends - 1)) / 2

    def extend_bucket(self, lengths: Sequence[int]) -> int:
        """The compiled length that a prompt (or each piece of a long one) goes into."""
        return next((n for n in sorted(lengths) if n >= self.prompt), max(lengths))
