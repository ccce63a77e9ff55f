"""An answer of a round: a candidate of a rollout, with what is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from selfevo_jax.chains import Candidate, Rollout


@dataclass(frozen=True)
class Answer:
    """A candidate of a rollout."""

    rollout: Rollout
    index: int

    @property
    def candidate(self) -> Candidate:
        return self.rollout.candidates[self.index]

    @property
    def text(self) -> str:
        return self.candidate.text.strip()

    @property
    def usable(self) -> bool:
        """Whether it is whole, and says something."""
        return self.candidate.finished and bool(self.text and self.candidate.tokens)

    @property
    def good(self) -> bool | None:
        return self.candidate.verdict

    @property
    def score(self) -> float | None:
        """Its rating where it has one, else 1 for good and 0 for bad; None where no verdict can be read."""
        judged = self.candidate.judged
        if judged is None or judged.good is None:
            return None
        return float(judged.good) if judged.rating is None else judged.rating


def scored_samples(rollouts: Iterable[Rollout]) -> dict[str, list[tuple[float, Answer]]]:
    """Prompt -> its first responses that are whole, each with its score where that can be read."""
    found: dict[str, list[tuple[float, Answer]]] = {}
    for rollout in rollouts:
        first = Answer(rollout, 0)
        if rollout.error is None and first.usable and (score := first.score) is not None:
            found.setdefault(rollout.prompt, []).append((score, first))
    return found


def pass_rates(rollouts: Iterable[Rollout]) -> dict[str, float]:
    """Prompt -> the share of its responses that are called good, among those with a verdict that can be read; a prompt
    without such a response has none."""
    said: dict[str, list[bool]] = {}
    for rollout in rollouts:
        if rollout.error is None and (good := Answer(rollout, 0).good) is not None:
            said.setdefault(rollout.prompt, []).append(good)
    return {prompt: sum(of) / len(of) for prompt, of in said.items()}
