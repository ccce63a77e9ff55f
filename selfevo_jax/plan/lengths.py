"""How long the texts of a round are: what the config bounds, and what has to be assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.config import Config
from selfevo_jax.methods import open_method

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
    turns: int
    branches: int = 0
    """Further texts of feedback on each answer; one at a time is in the cache."""
    weighed: int = 0
    """Words behind each text of feedback whose probability is asked for, each in a short extend."""

    @classmethod
    def of(cls, config: Config, prompt: int | None = None) -> Lengths:
        """`prompt` tokens, by default 256 or what the completions leave of the cache."""
        s, turns = config.sampling, config.rounds.turns
        judged = open_method(config).judges
        lengths = cls(
            0,
            INSTRUCTION,
            s.respond.max_new_tokens,
            s.feedback.max_new_tokens if judged else 0,
            s.refine.max_new_tokens if turns else 0,
            turns,
            config.judge.texts - 1 if judged else 0,
            config.judge.weighed if judged else 0,
        )
        room = s.cache_length - lengths.drawn - lengths.instruction * (lengths.extends - 1)
        return cls(**{**vars(lengths), "prompt": prompt or max(8, min(PROMPT, room))})

    @property
    def drawn(self) -> int:
        """Tokens drawn for a chain that uses all its turns."""
        return self.respond + self.feedback + self.turns * (self.refine + self.feedback)

    @property
    def beside(self) -> int:
        """Tokens drawn for the further texts of feedback of such a chain."""
        return self.branches * self.feedback * (1 + self.turns)

    @property
    def extends(self) -> int:
        """Texts that a chain puts into the cache: the prompt, and an instruction before each further completion."""
        return 1 + (1 if self.feedback else 0) + self.turns * ((1 if self.refine else 0) + (1 if self.feedback else 0))

    @property
    def beside_extends(self) -> int:
        """Short extends beside the texts of a chain that takes all its turns: further texts of feedback, and words that
        are weighed."""
        return (self.branches + self.weighed) * (1 + self.turns)

    @property
    def mean_context(self) -> float:
        """Positions that a drawn token attends to, in the middle of its chain."""
        return self.prompt + (self.drawn + self.instruction * (self.extends - 1)) / 2

    def extend_bucket(self, lengths: Sequence[int]) -> int:
        """The compiled length that a prompt (or each piece of a long one) goes into."""
        return next((n for n in sorted(lengths) if n >= self.prompt), max(lengths))
