"""What a request asks of the sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selfevo_jax.errors import ConfigError


@dataclass(frozen=True)
class SamplingParams:
    """What a request asks of the sampler. `problem` says what is wrong with it; `validated` raises."""

    temperature: float = 1.0
    """0 is greedy (the first of equal maxima)."""
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of most probable tokens whose mass, among those top-k left, reaches p; 1 keeps all."""
    min_p: float = 0.0
    """Drop tokens less probable than min_p times the most probable one; 0 keeps all."""
    max_new_tokens: int = 256
    stop_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()

    def problem(self, vocab_size: int | None = None) -> str | None:
        """One clause that names the field, what was found and what was expected; None when all is well."""
        if math.isnan(self.temperature) or math.isinf(self.temperature) or self.temperature < 0:
            return f"temperature is {self.temperature}; expected a finite number >= 0 (0 is greedy)"
        if self.top_k < 0:
            return f"top_k is {self.top_k}; expected a number >= 0 (0 keeps all tokens)"
        if not 0 < self.top_p <= 1:
            return f"top_p is {self.top_p}; expected a number in (0, 1] (1 keeps all tokens)"
        if not 0 <= self.min_p <= 1:
            return f"min_p is {self.min_p}; expected a number in [0, 1] (0 keeps all tokens)"
        if self.max_new_tokens < 1:
            return f"max_new_tokens is {self.max_new_tokens}; expected at least 1"
        if any(not s for s in self.stop_strings):
            return "a stop string is empty; expected at least one character"
        for stop in self.stop_ids:
            if stop < 0 or (vocab_size is not None and stop >= vocab_size):
                return f"stop id {stop} is outside the vocabulary of {vocab_size} tokens"
        return None

    def validated(self, vocab_size: int | None = None) -> SamplingParams:
        """Self, or ConfigError when a field cannot be used."""
        found = self.problem(vocab_size)
        if found is not None:
            raise ConfigError(f"sampling: {found}")
        return self
