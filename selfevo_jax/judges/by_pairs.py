"""The refinement against the response, in both orders: agreement decides, a disagreement is a tie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfevo_jax.judges.base import Assessment, Case, Reply
from selfevo_jax.judges.mt_bench import JudgePrompt, mt_bench_pair
from selfevo_jax.judges.pairwise import SIDES, Outcome, Pair, in_both_orders
from selfevo_jax.judges.server import EndpointSection

_RATINGS: dict[Outcome, tuple[float, float]] = {"win": (0.0, 1.0), "tie": (0.5, 0.5), "loss": (1.0, 0.0)}
"""Of the response and the refinement, by what becomes of the refinement."""


@dataclass(frozen=True)
class PairwiseJudge:
    """A refinement passes where it wins, and with `keep_ties` where it is as good; the response never does. The last
    refinement of a chain is compared; a chain without one has nothing that passes."""

    server: EndpointSection | None = None
    keep_ties: bool = False
    brief: bool = False
    name: str = "pairwise"
    reads_labels: bool = False
    compares: bool = True

    @property
    def prompt(self) -> JudgePrompt:
        return mt_bench_pair()

    def shown(self, case: Case) -> dict[str, str]:
        found = _pair(case)
        if found is None or found[0].strip() == found[1].strip():
            return {}
        texts = in_both_orders(self.prompt, case.prompt, found)
        return {f"refinement {side}": text for side, text in texts.items()}

    def assessed(self, case: Case, replies: Mapping[str, Reply]) -> list[Assessment]:
        answers, none = _pair(case), [Assessment(None) for _ in case.texts]
        if answers is None:
            return none
        if not replies:  # one and the same text
            return self._of("tie", "", none)
        pair = Pair.of(case.key, case.prompt, answers, [replies[f"refinement {side}"] for side in SIDES])
        first, second = pair.judgements
        words = f"[refinement shown first]\n{first.text}\n\n[refinement shown second]\n{second.text}"
        if pair.outcome is None:
            unread = next(j.verdict.unread for j in pair.judgements if j.verdict.unread is not None)
            return [*none[:-1], Assessment(None, text=words, unread=unread)]
        return self._of(pair.outcome, words, none)

    def _of(self, outcome: Outcome, words: str, none: list[Assessment]) -> list[Assessment]:
        response, refinement = _RATINGS[outcome]
        passes = outcome == "win" or (outcome == "tie" and self.keep_ties)
        return [Assessment(False, response), *none[1:-1], Assessment(passes, refinement, words)]


def _pair(case: Case) -> tuple[str, str] | None:
    """The last refinement and the response, where there are both."""
    response, refinement = case.texts[0], case.texts[-1]
    return None if len(case.texts) < 2 or response is None or refinement is None else (refinement, response)
