"""Control rows: answers made wrong on purpose, to see whether the critic tells them apart. No label is needed."""

from __future__ import annotations

import random
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from selfevo_jax.chains import Feedback, Generated, Judgement, Rollout, feedback_record
from selfevo_jax.data import EvaluationRow
from selfevo_jax.methods.selection import least_score, lets_through
from selfevo_jax.rounds.judging import judged_controls
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.run.names import name_of
from selfevo_jax.sample import DrawKey
from selfevo_jax.scorers import Scorer, keys_of, spoiled


class ControlChain(Generated[Judgement]):
    """Feedback on one planted wrong answer."""

    def __init__(
        self,
        rollout: Rollout,
        wrong: str,
        bench: Workbench,
        round: int,
    ) -> None:
        self.prompt, self.wrong = rollout.prompt, wrong
        key = DrawKey(round, "control", rollout.id, rollout.sample)
        turns = bench.judging(rollout.prompt, wrong, key, bench.stages().feedback)
        super().__init__(f"control-{rollout.id}/{rollout.sample}", turns)

    def record(self) -> dict[str, Any]:
        """Plain JSON values."""
        feedback = Feedback("", "error", None, None) if self.result is None else self.result.feedback
        found = {"prompt": self.prompt, "wrong": self.wrong, "feedback": feedback.text}
        members = [feedback_record(member) for member in feedback.members]
        return found | {"good": feedback.good, "rating": feedback.rating} | ({"members": members} if members else {})


def plan_controls(rollouts: Sequence[Rollout], count: int, seed: int, scorer: Scorer) -> list[tuple[Rollout, str]]:
    """(rollout, planted wrong answer) for up to `count` rows that the critic called good: those are likeliest right.

    An answer that the scorer cannot spoil is replaced by that of another prompt, where one has other words and another
    key. Rows for which no wrong answer is found are passed over, so there may be fewer than `count`. The scorer sees
    prompts and texts alone: no label is read.
    """
    usable = [r for r in rollouts if r.error is None and r.candidates[r.chosen].text.strip()]

    def called_good(r: Rollout) -> bool:
        judged = r.candidates[r.chosen].judged
        return judged is not None and judged.good is True

    rng = random.Random(seed)
    order = sorted(usable, key=lambda r: (not called_good(r), r.id, r.sample))
    # one answer of each wording is enough to find another one for any row
    others = {_wording(r.candidates[0].text): r for r in reversed(order)}
    keys: dict[str, Hashable | None] = {}
    planted: list[tuple[Rollout, str]] = []
    for row in order:
        if len(planted) == count:
            break
        text = row.candidates[row.chosen].text
        wrong = spoiled(scorer, _bare(row), text, rng)
        if wrong is None:
            if not keys:
                answers = [(r, r.candidates[0].text) for r in others.values()]
                keys = dict(zip(others, _keys(scorer, answers), strict=True))
            wrong = _another(text, row.id, others, keys, _keys(scorer, [(row, text)])[0])
        if wrong is not None:
            planted.append((row, wrong))
    return planted


def _wording(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _bare(rollout: Rollout) -> EvaluationRow:
    return EvaluationRow(rollout.id, rollout.prompt)


def _keys(scorer: Scorer, answers: Sequence[tuple[Rollout, str]]) -> list[Hashable | None]:
    return keys_of(scorer, [_bare(rollout) for rollout, _ in answers], [text for _, text in answers])


def _another(
    text: str, id: str, others: Mapping[str, Rollout], keys: Mapping[str, Hashable | None], own_key: Hashable | None
) -> str | None:
    """The answer to another prompt, where it has other words and not the same key."""
    own = _wording(text)
    for wording, other in others.items():
        if wording not in ("", own) and other.id != id and (own_key is None or keys[wording] != own_key):
            return other.candidates[0].text
    return None


def judge_planted(loop: Loop, round: int, rollouts: Sequence[Rollout]) -> dict[str, Any] | None:
    """How many planted wrong answers the critic lets through, and (`unread`, where there are any) of how many it says
    nothing that can be read; None where there is no critic, or none is planted."""
    settings, file = loop.config.rounds, loop.dir.round(round, "controls.json")
    if settings.controls == 0 or not loop.method.judges:
        return None
    found: dict[str, Any] | None = loop.dir.load(file)
    if found is None:
        planted = plan_controls(rollouts, settings.controls, loop.seed(round), loop.task.scorer)
        rows = _in_chains(loop, round, planted) if loop.bench.batch is None else _in_batch(loop, round, planted)
        least = least_score(rollouts, loop.config.judge.top_share)
        passed = sum(lets_through(row["good"], row["rating"], least) for row in rows)
        found = {"rows": len(rows), "passed": passed, "controls": rows}
        loop.dir.write_json(file, found)
    unread = sum(row["good"] is None for row in found["controls"])
    read = found["rows"] - unread
    share = found["passed"] / max(1, read)
    if share > settings.controls_warn_above:
        others = f"; {unread} more have feedback that cannot be read" if unread else ""
        loop.reporter.warn(
            f"round {round}: the critic calls {found['passed']} of {read} planted wrong answers good ({share:.0%}); "
            f"its filter does not discriminate{others}"
        )
    return {"rows": found["rows"], "passed": found["passed"]} | ({"unread": unread} if unread else {})


def _in_chains(loop: Loop, round: int, planted: Sequence[tuple[Rollout, str]]) -> list[dict[str, Any]]:
    """Rows by the judge within the chain."""
    chains = [ControlChain(rollout, wrong, loop.bench, round) for rollout, wrong in planted]
    params = loop.checkpoints.decoding(name_of(round - 1))
    loop.bench.run(params, chains, loop.reporter, f"round {round}: judge planted answers")
    return [chain.record() for chain in chains]


def _in_batch(loop: Loop, round: int, planted: Sequence[tuple[Rollout, str]]) -> list[dict[str, Any]]:
    """Rows by the judge of finished chains."""
    said = judged_controls(loop, round, planted)
    return [
        {"prompt": r.prompt, "wrong": wrong, "feedback": one.text, "good": one.good, "rating": one.rating}
        for (r, wrong), one in zip(planted, said, strict=True)
    ]
