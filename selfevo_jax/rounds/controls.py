"""Control rows: answers made wrong on purpose, to see whether the critic tells them apart. No label is needed."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from selfevo_jax.chains import Rollout
from selfevo_jax.judges import ChainJudge
from selfevo_jax.sample import Completion, DrawKey, Request, SamplingParams
from selfevo_jax.text import PromptFormat, extract_answer, same_answer

_DIGITS = re.compile(r"[0-9]{1,18}(?![0-9])")


def spoil(text: str, rng: random.Random) -> str | None:
    """A wrong answer from one that is thought right: a number changed so that the scorer reads another answer.

    None where no number of the text can be changed so; a number of a step, say, is not the answer.
    """
    if extract_answer(text) is None:
        return None
    for found in reversed(list(_DIGITS.finditer(text))):
        value = int(found.group())
        changed = value + rng.choice([d for d in (-3, -2, -1, 1, 2, 3) if value + d >= 0])
        wrong = f"{text[: found.start()]}{changed:0{len(found.group())}d}{text[found.end() :]}"
        if extract_answer(wrong) is not None and not same_answer(wrong, text):
            return wrong
    return None


class ControlChain:
    """Feedback on one planted wrong answer."""

    def __init__(
        self,
        rollout: Rollout,
        wrong: str,
        fmt: PromptFormat,
        params: SamplingParams,
        judge: ChainJudge,
        round: int,
    ) -> None:
        self.prompt, self.wrong, self.text = rollout.prompt, wrong, ""
        self.good: bool | None = None
        self._judge = judge
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
        verdict = self._judge.read(last.text)
        self.good = verdict.good if last.finished or verdict.end is not None else None  # as a chain reads it
        return None


def plan_controls(rollouts: Sequence[Rollout], count: int, seed: int) -> list[tuple[Rollout, str]]:
    """(rollout, planted wrong answer) for up to `count` rows that the critic called good: those are likeliest right.

    An answer without a number is replaced by that of another prompt, where one reads differently. Rows for which no
    wrong answer is found are passed over, so there may be fewer than `count`.
    """
    usable = [r for r in rollouts if r.error is None and r.candidates[r.chosen].text.strip()]

    def called_good(r: Rollout) -> bool:
        feedback = r.candidates[r.chosen].feedback
        return feedback is not None and feedback.good is True

    rng = random.Random(seed)
    order = sorted(usable, key=lambda r: (not called_good(r), r.id, r.sample))
    # one answer of each wording is enough to find another one for any row
    others = {_wording(r.candidates[0].text): r for r in reversed(order)}
    planted: list[tuple[Rollout, str]] = []
    for row in order:
        if len(planted) == count:
            break
        text = row.candidates[row.chosen].text
        if (wrong := spoil(text, rng) or _another(text, row.id, others)) is not None:
            planted.append((row, wrong))
    return planted


def _wording(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _another(text: str, id: str, others: Mapping[str, Rollout]) -> str | None:
    """The answer to another prompt, where it has other words and another number."""
    own = _wording(text)
    for wording, other in others.items():
        found = other.candidates[0].text
        if wording not in ("", own) and other.id != id and not same_answer(found, text):
            return found
    return None
