"""Chain of hindsight: a worse and a better answer in one sequence, each behind words that say which it is.

Source: Liu et al., "Chain of Hindsight Aligns Language Models with Feedback", arXiv 2302.02676.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfevo_jax.data import Unit, hindsight_example
from selfevo_jax.data.of_chains import MARKERS
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods import preferences as p
from selfevo_jax.methods.checks import check_pairs, check_shown
from selfevo_jax.methods.iterative_dpo import IterativeDpo
from selfevo_jax.text import PromptFormat


@dataclass(frozen=True)
class ChainOfHindsight(IterativeDpo):
    """The pairs of `iterative_dpo` as sequences. Checkpoints are measured on the bare prompt, as those of every method:
    what is learnt behind the words must carry over to it."""

    markers: tuple[str, str] = MARKERS
    """The words before the worse and before the better answer."""
    feedback: bool = False
    """Whether the chain's own feedback stands between a response and its refinement, in place of the words."""
    worse_weight: float = 1.0
    """Of the tokens of the worse answer; 0: they are read alone."""
    name: str = "chain_of_hindsight"
    settings: ClassVar[tuple[str, ...]] = ("pairs", "markers", "feedback", "worse_weight")
    fixed: ClassVar[tuple[str, ...]] = ("learn.objective.name",)

    @property
    def reads(self) -> dict[str, str]:
        said = "method.settings.feedback true" if self.feedback else ""
        return super().reads | {"method.settings.markers": said}

    def _check_compared(self) -> None:
        check_pairs(self.config, self.pairs)
        found = tuple(self.markers) if isinstance(self.markers, list | tuple) else ()
        if len(found) != 2 or not all(isinstance(text, str) and text.strip() for text in found):
            raise ConfigError(f"method.settings.markers: found {self.markers!r}, expected two texts: worse, better")
        if self.feedback and self.pairs != "refinement":
            raise ConfigError("method.settings.pairs: feedback stands before refinements alone; set it to refinement")
        if self.feedback:
            check_shown(self.config, self.name)
        if not isinstance(self.worse_weight, int | float) or not 0 <= self.worse_weight <= 1:
            told = f"found {self.worse_weight!r}, expected a number from 0 to 1"
            raise ConfigError(f"method.settings.worse_weight: {told}")

    def units(self, pairs: Sequence[p.Pair], fmt: PromptFormat) -> Sequence[Unit]:
        return [self._sequence(pair, fmt) for pair in pairs]

    def _sequence(self, pair: p.Pair, fmt: PromptFormat) -> Unit:
        better, worse = pair.better.candidate, pair.worse.candidate
        r, (before_worse, before_better) = pair.better.rollout, self.markers
        said = worse.feedback.tokens if self.feedback and worse.feedback is not None else None
        return hindsight_example(
            f"{r.id}/{r.sample}/{pair.better.index}",
            r.prompt,
            worse.tokens,
            better.tokens,
            better.end if fmt.ends(better.end) else (),
            fmt,
            feedback=said,
            markers=(before_worse, before_better),
            worse_weight=self.worse_weight,
            worse_ends=fmt.ends(worse.end),
        )
