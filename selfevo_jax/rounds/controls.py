"""Control rows: answers made wrong on purpose, to see whether the critic tells them apart. No label is needed."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from selfevo_jax.sample import Completion, DrawKey, Request, Rollout, SamplingParams
from selfevo_jax.text import PromptFormat, VerdictRule, parse_verdict

_NUMBER = re.compile(r"\d+")


def spoil(text: str, rng: random.Random, other: str) -> str:
    """A wrong answer from one that is thought right: its last number changed, or else another prompt's answer."""
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return other
    last = numbers[-1]
    value = int(last.group())
    wrong = value + rng.choice([d for d in (-3, -2, -1, 1, 2, 3) if value + d >= 0])
    return f"{text[: last.start()]}{wrong}{text[last.end() :]}"


class ControlChain:
    """Feedback on one planted wrong answer."""

    def __init__(
        self,
        rollout: Rollout,
        wrong: str,
        fmt: PromptFormat,
        params: SamplingParams,
        rule: VerdictRule,
        round: int,
    ) -> None:
        self.prompt, self.wrong, self.text = rollout.prompt, wrong, ""
        self.good: bool | None = None
        self._rule = rule
        head = fmt.respond(rollout.prompt)
        self._request = Request(
            tuple(fmt.judge([*head, *fmt.continuation(head, wrong)])),
            params,
            DrawKey(round, "control", rollout.id, rollout.sample),
        )
        self.id = f"control-{rollout.id}/{rollout.sample}"

    def next(self, last: Completion | None) -> Request | None:
        if last is None:
            return self._request
        self.text = last.text
        verdict = parse_verdict(last.text, self._rule)
        self.good = verdict.good if last.finished or verdict.end is not None else None  # as a chain reads it
        return None


def plan_controls(rollouts: Sequence[Rollout], count: int, seed: int) -> list[tuple[Rollout, str]]:
    """(rollout, planted wrong answer) for up to `count` rows that the critic called good: those are likeliest right."""
    usable = [r for r in rollouts if r.error is None and r.candidates[r.chosen].text.strip()]

    def called_good(r: Rollout) -> bool:
        feedback = r.candidates[r.chosen].feedback
        return feedback is not None and feedback.good is True

    rng = random.Random(seed)
    order = sorted(usable, key=lambda r: (not called_good(r), r.id, r.sample))[:count]
    return [
        (r, spoil(r.candidates[r.chosen].text, rng, order[(i + 1) % len(order)].candidates[0].text))
        for i, r in enumerate(order)
    ]
