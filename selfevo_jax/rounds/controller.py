"""The phase machine of a run. Each phase loads its artefact or creates it; the run directory is the only state."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax

from selfevo_jax.chains import Rollout
from selfevo_jax.config import Config
from selfevo_jax.evaluate import data_accuracy
from selfevo_jax.methods import BASE as M_0
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.controls import judge_planted
from selfevo_jax.rounds.curation import curate
from selfevo_jax.rounds.dealing import gold_of
from selfevo_jax.rounds.judging import judged, record
from selfevo_jax.rounds.loop import History
from selfevo_jax.rounds.measure import evaluate, read_ordinary
from selfevo_jax.rounds.meta_stage import meta_rows, meta_stage, qa_rows
from selfevo_jax.rounds.open_ended import OpenEnded
from selfevo_jax.rounds.opening import open_loop
from selfevo_jax.rounds.prompts import write_own
from selfevo_jax.rounds.references import references_file
from selfevo_jax.rounds.rollouts import rollouts
from selfevo_jax.run.following import Following
from selfevo_jax.run.names import BASE, COMMITTED, GRADES, META, STOPPED, name_of
from selfevo_jax.run.retention import best, direct_answers, kept, worse_than_best
from selfevo_jax.run.warned import Warned
from selfevo_jax.sharding import sizes_of
from selfevo_jax.train import open_objective, settled


class Controller:
    """One run, phase by phase."""

    def __init__(self, config: Config, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self._trackers = Following(config.track, reporter)
        self._warned = Warned(reporter)
        try:
            self.loop = open_loop(config, reporter, self._trackers.step)
        except BaseException:
            self._warned.close()
            raise
        self.dir, self.bench = self.loop.dir, self.loop.bench
        self._warned.into(self.dir)
        self._open_ended = OpenEnded(self.loop)

    def close(self) -> None:
        """Lets other processes at the run directory."""
        self._warned.close()
        self.dir.close()

    def run(self) -> None:
        """The whole run, or what is left of it."""
        with self._trackers.of(self.dir):
            self._run()

    def _run(self) -> None:
        loop, checkpoints = self.loop, self.loop.checkpoints
        self.reporter.line(
            f"Run {self.dir.root}: {self.bench.source.origin} on {jax.device_count()} {jax.devices()[0].platform} "
            f"device(s), mesh {sizes_of(self.bench.mesh)}"
        )
        self._measure(BASE, judge=False)
        meta_stage(loop)
        self._measure(META)
        if not loop.method.keeps_base:
            checkpoints.release_base()
        for number in range(1, self.config.rounds.number + 1):
            self.round(number)
            name = name_of(number)
            self._measure(name)
            worse = worse_than_best(self.dir, number) if self.config.rounds.stop_when_worse else None
            self._retain(number)
            if worse is not None:
                self.dir.write_json(self.dir.root / STOPPED, {"round": number, "why": worse})
                self.reporter.warn(
                    f"round {number} is {worse}; the run ends here (rounds.stop_when_worse; with false it goes on)"
                )
                break

    def _measure(self, name: str, judge: bool = True) -> None:
        evaluate(self.loop, name, judge)
        read_ordinary(self.loop, name)
        self._open_ended.measure(name)

    def round(self, round: int) -> None:
        """One round; it counts when its COMMITTED file names a finished checkpoint."""
        loop, name, done = self.loop, name_of(round), self.dir.round(round, COMMITTED)
        if self.dir.has(done) and self.dir.complete(name) and not self.dir.lost(done.parent):
            return
        self.reporter.line(f"Round {round}")
        own = write_own(loop, round)
        traces = judged(loop, round, rollouts(loop, round))
        controls = judge_planted(loop, round, traces)
        chosen = curate(loop, round, traces)
        if not self.dir.complete(name) or self.dir.lost(references_file(self.dir, name)):
            self._learn(round, traces, controls)
        loop.checkpoints.finish(name)
        # gold answers are read here, after the round has learnt, to measure alone
        gold = gold_of(self.config, loop.task, round)
        measured = data_accuracy(gold, loop.task.scorer, traces, chosen.kept)
        if measured is not None:
            self.dir.write_rows(self.dir.round(round, GRADES), measured[1])
        metrics: dict[str, Any] = {
            "round": round,
            "counts": chosen.counts.to_dict(),
            "controls": controls,
            "data_accuracy": None if measured is None else asdict(measured[0]),
            "training": self.dir.training(name),
        }
        if own is not None:
            metrics["written"] = own.to_dict()
        if (by := record(loop, traces)) is not None:
            metrics["judge"] = by
        if self.bench.label_readers:
            metrics["reads_labels"] = self.bench.label_readers
        self.dir.write_json(self.dir.round(round, "metrics.json"), metrics)
        self.dir.write_json(done, {"round": round, "checkpoint": name})

    def _learn(self, round: int, traces: list[Rollout], controls: Mapping[str, int] | None) -> None:
        """Fine-tunes on what the method has chosen, and saves M_round."""
        loop, checkpoints = self.loop, self.loop.checkpoints
        history = History(
            self.bench.format,
            lambda number: traces if number == round else judged(loop, number, rollouts(loop, number)),
            functools.cache(lambda: meta_rows(loop)),
            lambda: qa_rows(loop),
        )
        lesson = loop.method.learning(history, round)
        objective, smoothed = settled(lesson.objective or open_objective(self.config.learn.objective), controls)
        for line in (*lesson.notices, *filter(None, [smoothed])):
            self.reporter.line(f"  {line}")
        if lesson.start == M_0:
            start, of = checkpoints.base(), self.bench.source.origin
        else:
            before = name_of(int(lesson.start))
            start, of = checkpoints.params(before), f"beside:{before}"
        name, seed = name_of(round), loop.seed(round)
        checkpoints.train(name, start, of, lesson.groups, self.config.learn, seed, objective)

    def _retain(self, newest: int) -> None:
        """Removes the checkpoints that `saving` does not keep. A run that may end where a round is worse keeps the best
        one in any case."""
        saving = self.config.saving
        if saving.keep_last is None:
            return
        wanted = saving.keep_best or self.config.rounds.stop_when_worse
        keep = kept(saving, newest, best(direct_answers(self.dir, newest)) if wanted else None)
        for number in set(range(newest)) - keep:
            if not self.dir.removed(name_of(number)):
                self.dir.remove(name_of(number))
                self.reporter.line(f"  checkpoint {name_of(number)} is removed (saving.keep_last)")
