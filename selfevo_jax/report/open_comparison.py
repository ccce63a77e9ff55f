"""What a judge says of open-ended prompts in several runs, side by side, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfevo_jax.evaluate import mark_gain, mean
from selfevo_jax.report.figures import Figure, over_seeds
from selfevo_jax.report.open_ended import open_record
from selfevo_jax.run.run_dir import RunDir

WIN_RATE, EQUAL_LENGTHS, MARK = "win rate", "win rate at equal lengths", "mark"
_SCORES = {"win": 1.0, "tie": 0.5, "loss": 0.0}

Scores = dict[str, float | None]
"""Prompt id -> 1 for a win, 0.5 for a tie, 0 for a loss; or a mark. None: not judged."""
Judged = dict[tuple[str, str, str], Scores]
"""(set, measure, checkpoint) -> scores. A rate at equal lengths is no mean of scores: it has its value and its error,
by these names, for them."""
Key = tuple[str, str, str, str]
_RATE, _ERROR = "rate", "error"


def judged(run: RunDir, names: Mapping[str, str], sets: Sequence[str]) -> Judged:
    """What a run holds; `names`: checkpoint as it is shown -> its name in the run directory; `sets`: those to read, or
    none for all."""
    found: Judged = {}
    for shown, name in names.items():
        for set_name, figures in open_record(run, name).items():
            if sets and set_name not in sets:
                continue
            found |= {(set_name, measure, shown): scores for measure, scores in _measures(figures)}
    return found


def _measures(figures: Mapping[str, Any]) -> list[tuple[str, Scores]]:
    found: list[tuple[str, Scores]] = []
    if figures["win_rate"] is not None:
        outcomes = figures["outcomes"]
        found.append((WIN_RATE, {id: None if one is None else _SCORES[one] for id, one in outcomes.items()}))
        equal = figures["win_rate"]["length_controlled"]
        found.append((EQUAL_LENGTHS, {_RATE: equal["value"], _ERROR: equal["stderr"]}))
    if figures["ratings"]:
        found.append((MARK, figures["ratings"]))
    return found


def compared(
    seen: Mapping[str, Mapping[int, Judged]], baseline: str, columns: Sequence[str]
) -> tuple[dict[Key, Figure], dict[Key, Figure]]:
    """Figures of each row, and its differences to the same checkpoint of the baseline; keys are set, measure, row and
    checkpoint.

    Args:
      seen: row -> seed -> what its run holds.
      baseline: a row.
      columns: the checkpoints.
    """
    figures: dict[Key, Figure] = {}
    differences: dict[Key, Figure] = {}
    measures = dict.fromkeys(key[:2] for runs in seen.values() for judged in runs.values() for key in judged)
    for set_name, measure in measures:
        for row, runs in seen.items():
            for shown in columns:
                own = _of_seeds(runs, (set_name, measure, shown))
                if (found := _figure(own, measure)) is not None:
                    figures[set_name, measure, row, shown] = found
                if row == baseline or measure == EQUAL_LENGTHS:
                    continue
                if (found := _difference(_of_seeds(seen[baseline], (set_name, measure, shown)), own)) is not None:
                    differences[set_name, measure, row, shown] = found
    return figures, differences


def _of_seeds(runs: Mapping[int, Judged], key: tuple[str, str, str]) -> dict[int, Scores]:
    return {seed: judged[key] for seed, judged in runs.items() if key in judged}


def _figure(runs: Mapping[int, Scores], measure: str) -> Figure | None:
    """Of one run with the error over its prompts, of several seeds over them; seeds that share it count once."""
    if measure == EQUAL_LENGTHS:
        rates = {seed: found[_RATE] for seed, found in runs.items()}
        told = {seed: (rate, runs[seed][_ERROR]) for seed, rate in rates.items() if rate is not None}
        if len(set(told.values())) == 1:
            rate, error = next(iter(told.values()))
            return Figure(rate, error, dict.fromkeys(told, rate))
        return over_seeds({seed: rate for seed, (rate, _) in told.items()})
    read = {seed: [one for one in scores.values() if one is not None] for seed, scores in runs.items()}
    read = {seed: scores for seed, scores in read.items() if scores}
    first = next(iter(read.values()), [])
    if first and all(scores == first for scores in read.values()):
        found = mean(first)
        assert found.value is not None
        return Figure(found.value, found.stderr, dict.fromkeys(read, found.value), found.n)
    return over_seeds({seed: sum(scores) / len(scores) for seed, scores in read.items()})


def _difference(before: Mapping[int, Scores], after: Mapping[int, Scores]) -> Figure | None:
    """Seed by seed on the same prompts; two single runs are compared whatever their seeds."""
    pairs = {seed: (before[seed], after[seed]) for seed in after if seed in before}
    if not pairs and len(before) == len(after) == 1:
        (one,), ((seed, other),) = before.values(), after.items()
        pairs = {seed: (one, other)}
    gains = {seed: gain for seed, (one, other) in pairs.items() if (gain := mark_gain(one, other)) is not None}
    if len(gains) == 1:
        ((seed, gain),) = gains.items()
        return Figure(gain.gain, gain.stderr, {seed: gain.gain}, gain.n, gain.p)
    return over_seeds({seed: gain.gain for seed, gain in gains.items()})
