"""Measuring a checkpoint on a set of rows with gold answers, in every mode that the config asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.chains import Rollout
from selfevo_jax.errors import ConfigError
from selfevo_jax.evaluate import EvaluationSet, score, text_figures, vote
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.limits import clipped, not_run
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.workbench import Workbench

UNJUDGED = ("direct", "consistency")
"""The modes that need no feedback: a base cannot judge yet."""
VOTING = ("consistency", "both")
"""The modes in which several answers to a row vote."""


def measure(
    bench: Workbench, params: Any, of: EvaluationSet, title: str, reporter: Reporter, judge: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures (an `Evaluation` as plain values, with a `TextFigures` as `texts`); and on process 0, which alone scores,
    the greedy texts with columns and grades (see `score`). `judge=False` leaves modes with feedback out.

    Self-refinement takes at least one turn here, also when the rounds of the run refine nothing. Rows that could not be
    run, texts that were cut, modes that are left out since no answer votes, and the scorer's hint are warned of; raises
    ConfigError, naming the limit, where no row could be run.
    """
    settings = bench.config.evaluate
    modes = [mode for mode in settings.modes if judge or mode in UNJUDGED]
    turns = max(1, bench.config.rounds.turns)
    greedy = bench.stages(greedy=True)
    chains = [bench.chain(row, greedy, round=0, judge="refined" in modes, turns=turns) for row in of.rows]
    rollouts = bench.roll_out(params, chains, reporter, title)
    _warn(bench, rollouts, title, reporter)
    voting = [mode for mode in VOTING if mode in modes]
    if voting and not of.votes:
        reporter.warn(
            f"{title}: not measured: {', '.join(voting)}, the majority of several answers; answers graded by the "
            f"scorer '{of.scorers[0].name}' cast no vote. Leave it out of evaluate.modes, or name a scorer with votes "
            "first"
        )
        voting = []
    drawn: list[Rollout] = []
    if voting:
        stages = bench.stages(temperature=settings.temperature)
        samples = [
            bench.chain(row, stages, round=0, sample=k + 1, judge="both" in modes, turns=turns)
            for row in of.rows
            for k in range(settings.k)
        ]
        sampled = f"{title}, {settings.k} samples a row"
        drawn = bench.roll_out(params, samples, reporter, sampled)
        _warn(bench, drawn, sampled, reporter)
    texts: list[dict[str, Any]] = []

    def figures() -> tuple[dict[str, Any], str | None]:
        evaluation, rows = score(of, rollouts)
        texts.extend(rows)
        found = asdict(evaluation) | {"scorers": list(evaluation.scorers)}
        found["texts"] = asdict(text_figures(rollouts, bench.leaks))
        for mode in voting:
            found["right"][mode], by_scorer = vote(of, drawn, mode == "both")
            found[mode], *others = (asdict(by_scorer[name]) for name in evaluation.scorers)
            for name, accuracy in zip(evaluation.scorers[1:], others, strict=True):
                found["further"][name][mode] = accuracy
        return found, of.hint(rollouts)

    found, hint = hosts.agree(f"scoring {title}", figures)
    if hint is not None:
        reporter.warn(f"{title}: {hint}")
    return found, texts


def _warn(bench: Workbench, rollouts: Sequence[Rollout], title: str, reporter: Reporter) -> None:
    sampling = bench.config.sampling
    if (lost := not_run(rollouts, sampling)) is not None:
        if all(r.candidates[0].finish == "error" for r in rollouts):
            raise ConfigError(f"{title}: {lost}. Nothing is left to measure: raise sampling.cache_length")
        reporter.warn(f"{title}: {lost}. They are counted as failed, and are in no share")
    for line in clipped(rollouts, sampling):
        reporter.warn(f"{title}: {line}")


def evaluate(loop: Loop, name: str, judge: bool = True) -> None:
    """Figures of a checkpoint on every evaluation set, into the run directory, with the texts beside them."""
    file = loop.dir.evaluation(name)
    record: dict[str, Any] = loop.dir.load(file) or {}
    for set_name, of in loop.task.evaluation().items():
        if set_name in record and not loop.dir.lost(loop.dir.texts(name, set_name)):
            continue
        title = f"evaluating {name} on {set_name}"
        found, texts = measure(loop.bench, loop.checkpoints.decoding(name), of, title, loop.reporter, judge)
        loop.dir.write_rows(loop.dir.texts(name, set_name), texts)
        loop.dir.write_json(file, record := record | {set_name: found})


def read_ordinary(loop: Loop, name: str) -> None:
    """How probable a checkpoint finds the held-out ordinary answers, into the run directory."""
    file, of = loop.dir.ordinary(name), loop.ordinary
    if of is None or loop.dir.load(file) is not None:
        return
    title = f"reading ordinary answers with {name}"
    loop.dir.write_json(file, of.measure(loop.bench, loop.checkpoints.params(name), title, loop.reporter))
