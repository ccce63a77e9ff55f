"""Chains beside SELF's: several refinements of one feedback, and two answers, the second of which may have a hint.

Sources: Scheurer et al. (ILF), arXiv 2303.16755; Zelikman et al. (STaR), arXiv 2203.14465.
"""

from __future__ import annotations

from typing import Any

from selfevo_jax.chains.base import Turns
from selfevo_jax.chains.refine import RefineChain
from selfevo_jax.chains.trace import Candidate, Rollout


class RefinementsChain(RefineChain):
    """Respond, judge, `refinements` times refine that same feedback, and judge each refinement. All of these are drawn
    before the first is judged: the slot keeps the text that they go on from, of which a judgement has the prompt alone.
    """

    def __init__(self, *args: Any, refinements: int, **how: Any) -> None:
        super().__init__(*args, **how)
        self._refinements = refinements

    def _chain(self) -> Turns[Rollout]:
        last = yield self._request("respond", self._start, self._stages.respond)
        if last.finish == "error":
            return self._ended([Candidate("", "error", ())], last.error)
        candidates = [self._candidate(last)]
        if self._judge is None:
            return self._ended(candidates)
        first = yield from self._judged(self._judge, candidates)
        if first.error is not None or first.feedback.good is not False:
            return self._ended(candidates, first.error)
        asked, numbers = self._fmt.refine(first.so_far), range(1, self._refinements + 1)
        drawn = yield [self._request(f"refine-{number}", asked, self._stages.refine) for number in numbers]
        for last in drawn:
            if last.finish == "error":
                return self._ended([*candidates, Candidate("", "error", ())], last.error)
            candidates.append(self._candidate(last))
            judged = yield from self._judged(self._judge, candidates)
            if judged.error is not None:
                return self._ended(candidates, judged.error)
        return self._ended(candidates)


class TwoAnswersChain(RefineChain):
    """Two answers, neither of which is judged here: one to the prompt, and one to `second`, the prompt again or a text
    with a hint, drawn as `stage`. Where that text is too long to be run there is the first answer alone."""

    def __init__(self, *args: Any, second: str, stage: str, **how: Any) -> None:
        super().__init__(*args, **how)
        self._second, self._stage = list(self._fmt.respond(second)), stage

    def _chain(self) -> Turns[Rollout]:
        first, second = yield [
            self._request("respond", self._start, self._stages.respond),
            self._request(self._stage, self._second, self._stages.respond),
        ]
        if first.finish == "error":
            return self._ended([Candidate("", "error", ())], first.error)
        return self._ended([self._candidate(last) for last in (first, second) if last.finish != "error"])
