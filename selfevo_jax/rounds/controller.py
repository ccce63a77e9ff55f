"""The phase machine of a run. Each phase loads its artefact or creates it; the run directory is the only state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from selfevo_jax import hosts
from selfevo_jax.accelerators import overlooked
from selfevo_jax.chains import Rollout
from selfevo_jax.checkpoint import model_checksum
from selfevo_jax.config import Config
from selfevo_jax.data import MetaRow, read_meta, source_checksum
from selfevo_jax.errors import ConfigError
from selfevo_jax.evaluate import data_accuracy
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.checkpoints import Checkpoints, tell_aside
from selfevo_jax.rounds.controls import ControlChain, plan_controls
from selfevo_jax.rounds.limits import check_first_round, clipped, not_run
from selfevo_jax.rounds.measure import measure
from selfevo_jax.rounds.meta_skill import (
    annotate_stories,
    check_verdicts,
    self_pool,
    supervised_examples,
    verdicts_alone,
    warn_unbalanced,
)
from selfevo_jax.rounds.mixture import SELF
from selfevo_jax.rounds.pools import FilePools, StoryPools, open_pools
from selfevo_jax.rounds.select import Selection, require, select, weakness
from selfevo_jax.rounds.survey import run_phases, survey
from selfevo_jax.rounds.workbench import Workbench, open_workbench
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.journal import by_id
from selfevo_jax.run.retention import best, direct_answers, kept, worse_than_best
from selfevo_jax.run.run_dir import COMMITTED, META, SCORES, STOPPED, RunDir, name_of
from selfevo_jax.train import check_settings, train_settings


class Controller:
    """One run, phase by phase."""

    def __init__(self, config: Config, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self.pools = open_pools(config)
        self.dir = RunDir(config.run_dir)
        self.bench: Workbench = open_workbench(config, self.dir.append_cost)
        self.bench.engine.fit(survey(self.bench, run_phases(self.bench, self.pools)))
        self._check()
        if (before := self.dir.open(config, self._fingerprints())) is not None:
            reporter.line(f"{self.dir.root}: taken over from {before}, which is gone")
        self._tell_notes()
        tell_aside(self.dir.aside, reporter)
        self.checkpoints = Checkpoints(self.bench, self.dir, reporter)
        for name in self.dir.finish_removals():
            reporter.line(f"  the removal of checkpoint {name} had been broken off; it is finished (saving.keep_last)")
        self._meta_rows: list[MetaRow] | None = None

    def close(self) -> None:
        """Lets other processes at the run directory."""
        self.dir.close()

    def _check(self) -> None:
        """Everything that could stop the run later and can be seen now."""
        for name, section in (("meta", self.config.meta), ("learn", self.config.learn)):
            if section.steps == 0:
                continue
            try:
                check_settings(train_settings(section, self.config.seed), self.bench.mesh)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error
        if isinstance(self.pools, FilePools):
            source = self.config.data.meta_skill or self.config.data.meta_from_solutions or "D_meta"
            check_verdicts(self.pools.meta_rows(), self.bench.judge, source)
        lost = None
        if self.config.rounds.number > 0:
            lost = check_first_round(self.config, self.pools.prompts(1), self.bench.format)
        for said in (*self.pools.notices(), self.bench.format.notice(), lost):
            if said is not None:
                self.reporter.warn(said)
        used = jax.devices()[0].platform
        if self.config.platform == "auto" and (line := overlooked(used)) is not None:
            self.reporter.warn(line)

    def _fingerprints(self) -> dict[str, str]:
        """What the stored artefacts rest on besides the config: a change is refused on resume."""
        data = self.config.data
        sources = {"prompts": data.prompts, "meta_skill": data.meta_skill, "qa": data.qa}
        sources |= {"meta_from_solutions": data.meta_from_solutions}
        sources |= {f"evaluation.{name}": of.source for name, of in data.evaluation.items()}
        prints = {f"data.{name}": source_checksum(source) for name, source in sources.items() if source is not None}
        with hosts.working("reading the model for its checksum"):
            prints["model"] = model_checksum(self.config.model.source, self.reporter)
        return prints | {"tokenizer": self.bench.tokenizer.fingerprint, "format": self.bench.format.fingerprint}

    def _tell_notes(self) -> None:
        """What was put in order in the run directory."""
        for note in self.dir.take_notes():
            self.reporter.warn(note)

    # --- evaluation

    def evaluate(self, name: str, params: Callable[[], Any], judge: bool = True) -> None:
        """Figures of a checkpoint on every evaluation set, into the run directory, with the texts beside them."""
        file = self.dir.evaluation(name)
        record: dict[str, Any] = self.dir.load(file) or {}
        for set_name, of in self.pools.evaluation().items():
            if set_name in record and not self.dir.lost(self.dir.texts(name, set_name)):
                continue
            title = f"evaluating {name} on {set_name}"
            found, texts = measure(self.bench, params(), of, title, self.reporter, judge)
            self.dir.write_rows(self.dir.texts(name, set_name), texts)
            self.dir.write_json(file, record := record | {set_name: found})

    # --- phases

    def meta_rows(self) -> list[MetaRow]:
        """D_meta, as stored in the run directory; none where the config names none."""
        if not self.config.data.has_meta:
            return []
        file = self.dir.meta("meta_skill.jsonl")
        if self._meta_rows is None:
            if not self.dir.has(file):
                if isinstance(self.pools, StoryPools):
                    rows = annotate_stories(self.bench, self.checkpoints.base(), self.pools, self.reporter)
                else:
                    rows = self.pools.meta_rows()
                if self.config.data.meta_feedback == "verdict":
                    rows = verdicts_alone(rows, self.bench.judge)
                self.dir.write_rows(file, rows)
            self.dir.require(file)
            self._meta_rows = read_meta(file)
        return self._meta_rows

    def meta_stage(self) -> None:
        """Meta-skill learning: M_0 on D_meta (and D_QA) gives M_meta."""
        done = self.dir.meta(COMMITTED)
        if self.dir.has(done) and self.dir.complete(META) and not self.dir.lost(done.parent):
            return
        self.reporter.line("Meta-skill learning")
        rows = self.meta_rows()
        if rows:
            warn_unbalanced(rows, self.reporter)
        if not self.dir.complete(META) and self.config.meta.steps == 0:
            self.reporter.line("  meta.steps is 0: M_meta is the model as it is")
            self.checkpoints.save_base(META)
        elif not self.dir.complete(META):
            bench = self.bench
            groups = supervised_examples(rows, self.pools.qa_rows(), bench.format, self.config.meta)
            self.checkpoints.train(
                META, self.checkpoints.base(), bench.source.origin, groups, self.config.meta, self.config.seed
            )
        self.checkpoints.finish(META)
        self.dir.write_json(done, {"checkpoint": META, "training": self.dir.training(META)})

    def rollouts(self, round: int) -> list[Rollout]:
        """Respond, judge, refine, judge again. Rows are stored as they finish, and never sampled twice."""
        manifest = self.dir.round(round, "rollouts/manifest.json")
        part = self.dir.round(round, "rollouts/part-00000.jsonl")
        beside = self.dir.round(round, SCORES)
        if self.dir.load(manifest) is None and self.dir.finished(part):
            self._count(manifest, part)
        if self.dir.load(manifest) is not None and self.dir.has(part):
            self.dir.require(part)
            with understood(part):
                return [Rollout.from_dict(row) for row in read_rows(part)]
        prompts, stages = self.pools.prompts(round), self.bench.stages()
        with self.dir.journal(part) as journal, self.dir.journal(beside, {by_id(r) for r in journal.rows}) as scores:
            self._tell_notes()

            def done(rollout: Rollout) -> None:
                scores.append(rollout.scores())  # first, so that each finished rollout has them
                journal.append(rollout.to_dict())

            have = {by_id(row) for row in journal.rows}
            if have:
                self.reporter.line(f"  {len(have)} finished rollouts are kept")
            chains = [
                self.bench.chain(row, stages, round=round, sample=sample, judge=self.config.rounds.judges)
                for row in prompts
                for sample in range(self.config.data.samples_per_prompt)
                if (row.id, sample) not in have
            ]
            title = f"round {round}: respond, judge, refine"
            self.bench.roll_out(
                self.checkpoints.params(name_of(round - 1)),
                chains,
                self.reporter,
                title,
                done,
            )
            rows = sorted(journal.rows, key=by_id)
            scored = {by_id(row): row for row in scores.rows}
        if lacking := sum(by_id(row) not in scored for row in rows):
            self.reporter.warn(f"round {round}: {lacking} of {len(rows)} rollouts have no row in {beside}")
        self.dir.write_rows(beside, [scored[by_id(row)] for row in rows if by_id(row) in scored])
        self.dir.write_rows(part, rows)  # in one order whatever the slots and interruptions
        self._count(manifest, part)
        return [Rollout.from_dict(row) for row in rows]

    def _count(self, manifest: Path, part: Path) -> None:
        """The last file of a round's rollouts: how many there are."""
        self.dir.write_json(manifest, self.dir.counted(part))

    def controls(self, round: int, rollouts: Sequence[Rollout]) -> dict[str, Any] | None:
        """How many planted wrong answers the critic lets through."""
        count = self.config.rounds.controls
        if count == 0 or not self.config.rounds.judges:
            return None
        file = self.dir.round(round, "controls.json")
        found = self.dir.load(file)
        if found is None:
            bench, seed = self.bench, self.config.seed * 1000 + round
            chains = [
                ControlChain(rollout, wrong, bench.format, bench.stages().feedback, bench.judge, round)
                for rollout, wrong in plan_controls(rollouts, count, seed, self.pools.scorer)
            ]
            bench.run(
                self.checkpoints.params(name_of(round - 1)),
                chains,
                self.reporter,
                f"round {round}: judge planted answers",
            )
            rows = [{"prompt": c.prompt, "wrong": c.wrong, "feedback": c.text, "good": c.good} for c in chains]
            passed = sum(row["good"] is True for row in rows)
            found = {"rows": len(rows), "passed": passed, "controls": rows}
            self.dir.write_json(file, found)
        share = found["passed"] / max(1, found["rows"])
        if share > self.config.rounds.controls_warn_above:
            self.reporter.warn(
                f"round {round}: the critic calls {found['passed']} of {found['rows']} planted wrong answers good "
                f"({share:.0%}); its filter does not discriminate"
            )
        return {"rows": found["rows"], "passed": found["passed"]}

    def _choose(self, round: int, rollouts: Sequence[Rollout]) -> Selection:
        """What the filter makes of a round's rollouts: the same whenever it is asked."""
        rounds = self.config.rounds
        return select(rollouts, rounds.select, self.config.seed * 1000 + round, rounds.per_prompt)

    def selection(self, round: int, rollouts: Sequence[Rollout]) -> Selection:
        """The filter, and D_self of the round."""
        chosen, sampling = self._choose(round, rollouts), self.config.sampling
        for line in clipped(rollouts, sampling):
            self.reporter.warn(f"round {round}: {line}")
        start = META if round == 1 else str(round - 1)
        way_on = f"`selfevo fork {self.dir.root} NEW --from {start} KEY=VALUE` goes on from there with other settings"
        lost = not_run(rollouts, sampling)
        require(chosen, self.config.rounds.minimum_kept, round, lost, way_on)
        if lost is not None:
            self.reporter.warn(f"round {round}: {lost}")
        if (weak := weakness(chosen.counts, self.config.rounds.select)) is not None:
            self.reporter.warn(f"round {round} is weak: {weak}; it is trained on all the same. {way_on}")
        if chosen.counts.judged_good == chosen.counts.sampled and self.config.rounds.select == "feedback":
            self.reporter.warn(f"round {round}: the critic calls every row good; the filter keeps all")
        rows = [
            {
                "id": r.id,
                "sample": r.sample,
                "prompt": r.prompt,
                "answer": r.candidates[r.chosen].text,
                "refined": r.chosen > 0,
            }
            for r in chosen.kept
        ]
        self.dir.write_rows(self.dir.round(round, "self_curated.jsonl"), rows)
        return chosen

    def learn(self, round: int, kept: Sequence[Rollout]) -> None:
        """Fine-tunes on D_self (with D_meta, by the variant) and saves M_round."""
        bench, section, variant = self.bench, self.config.learn, self.config.rounds.variant
        learnt = list(kept)
        pool_of = self.config.rounds.pool or ("all" if variant == "restart" else "last")
        if pool_of == "all":
            for earlier in range(1, round):
                learnt += self._choose(earlier, self.rollouts(earlier)).kept
        endless = sum(not bench.format.ends(r.candidates[r.chosen].end) for r in learnt)
        if endless:
            self.reporter.line(
                f"  {endless} of {len(learnt)} kept answers are taught without an end: a run-on was cut, or "
                "a stop string ended them"
            )
        groups = {SELF: self_pool(learnt, bench.format)}
        if variant != "continual_self_only" and section.meta_share != 0:
            rows = self.meta_rows()
            groups |= supervised_examples(rows, self.pools.qa_rows(), bench.format, section)
        before = name_of(round - 1)
        start, of = (
            (self.checkpoints.base(), bench.source.origin)
            if variant == "restart"
            else (self.checkpoints.params(before), f"beside:{before}")
        )
        self.checkpoints.train(name_of(round), start, of, groups, section, self.config.seed * 1000 + round)

    def round(self, round: int) -> None:
        """One round; it counts when its COMMITTED file names a finished checkpoint."""
        done = self.dir.round(round, COMMITTED)
        if self.dir.has(done) and self.dir.complete(name_of(round)) and not self.dir.lost(done.parent):
            return
        self.reporter.line(f"Round {round}")
        rollouts = self.rollouts(round)
        controls = self.controls(round, rollouts)
        chosen = self.selection(round, rollouts)
        if not self.dir.complete(name_of(round)):
            self.learn(round, chosen.kept)
        self.checkpoints.finish(name_of(round))
        # gold answers are read here, after the round has learnt, to measure alone
        accuracy = data_accuracy(self.pools.gold(round), self.pools.scorer, rollouts, chosen.kept)
        self.dir.write_json(
            self.dir.round(round, "metrics.json"),
            {
                "round": round,
                "counts": chosen.counts.to_dict(),
                "controls": controls,
                "data_accuracy": None if accuracy is None else asdict(accuracy),
                "training": self.dir.training(name_of(round)),
            },
        )
        self.dir.write_json(done, {"round": round, "checkpoint": name_of(round)})

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

    def run(self) -> None:
        """The whole run, or what is left of it."""
        self.reporter.line(
            f"Run {self.dir.root}: {self.bench.source.origin} on {jax.device_count()} {jax.devices()[0].platform} "
            f"device(s), mesh {dict(self.bench.mesh.shape)}"
        )
        self.evaluate("base", self.checkpoints.base, judge=False)
        self.meta_stage()
        self.evaluate(META, lambda: self.checkpoints.params(META))
        if self.config.rounds.variant != "restart":
            self.checkpoints.release_base()
        for number in range(1, self.config.rounds.number + 1):
            self.round(number)
            name = name_of(number)
            self.evaluate(name, functools.partial(self.checkpoints.params, name))
            worse = worse_than_best(self.dir, number) if self.config.rounds.stop_when_worse else None
            self._retain(number)
            if worse is not None:
                self.dir.write_json(self.dir.root / STOPPED, {"round": number, "why": worse})
                self.reporter.warn(
                    f"round {number} is {worse}; the run ends here (rounds.stop_when_worse; with false it goes on)"
                )
                break
