"""Measuring a checkpoint on a set of rows with gold answers, in every mode that the config asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfevo_jax.data import QARow
from selfevo_jax.evaluate import as_dict, score, vote
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.sample import Rollout


def measure(
    bench: Workbench, params: Any, rows: Sequence[QARow], title: str, reporter: Reporter, judge: bool = True
) -> tuple[dict[str, Any], list[Rollout]]:
    """Figures (an `Evaluation` as plain values) and the greedy rollouts. `judge=False` runs the direct mode alone."""
    settings = bench.config.evaluate
    modes = settings.modes if judge else ("direct",)
    gold = {row.id: row.answer for row in rows}
    greedy = bench.stages(greedy=True)
    chains = [bench.chain(row, greedy, round=0, judge="refined" in modes) for row in rows]
    rollouts, _ = bench.roll_out(params, chains, reporter, title)
    found = as_dict(score(gold, rollouts))
    stages = bench.stages(temperature=settings.temperature)
    for mode in ("consistency", "both"):
        if mode in modes:
            samples = [
                bench.chain(row, stages, round=0, sample=k + 1, judge=mode == "both")
                for row in rows
                for k in range(settings.k)
            ]
            voted, _ = bench.roll_out(params, samples, reporter, f"{title}, {mode} of {settings.k}")
            found[mode] = as_dict(vote(gold, voted, mode == "both"))
    return found, rollouts
