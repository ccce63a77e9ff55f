"""The checkpoints of a run: the base, M_meta and each M_t; read, trained and saved, whole or not at all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax import hosts
from selfevo_jax.checkpoint import MARK, TrainingStore, open_weights, save_adapters, save_model
from selfevo_jax.data import Batches, Example, Unit, check_extras, jsonl_lines
from selfevo_jax.errors import NonFiniteLossError, SelfevoError
from selfevo_jax.methods.mixture import PoolMap, fitted, mixture
from selfevo_jax.model import merge_adapters, param_shardings, require_finite
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.masters import Masters
from selfevo_jax.rounds.references import with_references
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.run.names import BASE, LOSSES, META
from selfevo_jax.run.retention import require_room, training_room
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.sharding import TRAIN_RULES
from selfevo_jax.train import (
    Objective,
    SavePolicy,
    StartExtras,
    TrainConfig,
    TrainingKeeper,
    TrainSection,
    fit,
    made_by,
    open_objective,
    start_extras,
    step_row,
    train_settings,
)

Told = Callable[[str, Mapping[str, float]], None]
"""Takes the name of the checkpoint that is being made, and each step of its fine-tuning as `losses.jsonl` will hold
it."""


class Checkpoints:
    """Of one run. The last one asked for, and the base, are kept at hand: fp32, laid out for training. While one of
    them samples its own copy alone, cast and laid out for that, has to be on the devices (see `Masters`)."""

    def __init__(self, bench: Workbench, dir: RunDir, reporter: Reporter, told: Told) -> None:
        self._bench, self._dir, self._reporter, self._told = bench, dir, reporter, told
        self._masters = Masters(bench.mesh)
        self._latest: str | None = None
        self._placed: tuple[str, Any] | None = None

    def base(self) -> Any:
        """M_0."""
        return self._masters.get(BASE, self._bench.base_params)

    def release_base(self) -> None:
        """M_0 is read again when it is asked for."""
        self._masters.forget(BASE)

    def params(self, name: str) -> Any:
        """Parameters of the base, or of a finished checkpoint of this run, kept until the next is asked for."""
        if name == BASE:
            return self.base()
        self._keep(name)
        return self._masters.get(name, lambda: self._read(name))

    def decoding(self, name: str) -> Any:
        """The same as the sampler takes them, cast or quantized once, until others are asked for or trained."""
        if self._placed is None or self._placed[0] != name:
            self._placed = None
            self._placed = name, self._bench.engine.place(self.params(name))
        self._masters.rest()
        return self._placed[1]

    def _keep(self, name: str) -> None:
        """Forgets the checkpoint that was asked for last, where that is another one."""
        if self._latest not in (None, name):
            self._masters.forget(self._latest)
        self._latest = name

    def _read(self, name: str) -> Any:
        folder = self._dir.checkpoint(name)
        if self._dir.removed(name):
            raise SelfevoError(
                f"{folder}: removed by saving.keep_last, and a file that rests on it is to be made anew; restore "
                "that file from a copy of the run, or begin another run: selfevo fork"
            )
        self._dir.require(folder)
        _, load, _ = open_weights(str(folder))
        return require_finite(load(self._layout(), jnp.float32), str(folder))

    def finish(self, name: str) -> None:
        """What is left to do when a checkpoint is there whole."""
        self._dir.seal(self._dir.checkpoint(name))
        self._states(name).clear()

    def save_base(self, name: str) -> None:
        """Saves M_0 as it is under another name."""
        self._save(name, functools.partial(save_model, params=self.base()), {"examples": {}, "steps": 0}, ())

    def train(
        self,
        name: str,
        start: Any,
        of: str,
        groups: Mapping[str, Sequence[Unit]],
        section: TrainSection,
        seed: int,
        objective: Objective | None = None,
    ) -> None:
        """Fine-tunes `start`, which is found again under `of`, and saves a checkpoint. Nothing is saved when the loss
        or the parameters are not finite. `objective`: in place of the section's. Of a checkpoint that is there already
        the references alone are made anew."""
        self._placed = None
        self._masters.rest(but=start)
        objective = objective or open_objective(section.objective)
        usable = mixture(fitted(groups, section, self._reporter, _section_of(name)), section)
        if made_by(objective.reads):
            usable = self._referred(usable, name, start, section, seed, objective)
        if self._dir.complete(name):
            return
        batches = Batches(usable, section.batch_rows, section.length, seed, section.packing, objective.reads)
        settings = self._settings(name, section, batches, seed, objective)
        saving, store = self._bench.config.saving, self._states(name)
        seconds = None if saving.every_minutes is None else 60 * saving.every_minutes
        keeper = TrainingKeeper(store, SavePolicy(saving.every_steps, seconds), f"fine-tuning {name}")
        if (step := store.latest()) is not None:
            self._reporter.line(f"  fine-tuning {name} goes on after step {step}")
        tell_aside(store.aside, self._reporter)
        alone = section.lora is not None and section.lora.save == "adapters"
        room = training_room(self._bench.model, settings.lora, alone)
        hosts.agree("looking for room", lambda: require_room(self._dir.root, room, f"fine-tuning {name}"))
        rate = f"{_section_of(name)}.learning_rate"
        try:
            with self._reporter.task(f"fine-tuning {name}", settings.steps, "steps") as meter:

                def on_step(step: int, found: dict[str, float]) -> None:
                    meter.set(step + 1, f"loss {found['loss']:.3f}")
                    self._told(name, step_row(step + 1, found))

                learnt, report = fit(
                    start,
                    self._bench.model,
                    batches,
                    settings,
                    self._bench.mesh,
                    on_step=on_step,
                    keeper=keeper,
                )
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"fine-tuning {name}, {error} ({rate} is {section.learning_rate:g})") from error
        record = {
            "examples": {pool: len(examples) for pool, (examples, _) in usable.items()},
            "shares": {pool: share for pool, (_, share) in usable.items()},
            "objective": objective.name,
            "steps": report.steps,
            "loss_first": report.losses[0],
            "loss_last": report.losses[-1],
            "tokens": report.tokens,
            "targets": report.targets,
            "padding_share": report.padding_share,
            "seconds": report.seconds,
        }
        lora = settings.lora
        if lora is None:
            params = learnt
        else:
            params = jax.jit(merge_adapters, static_argnums=2, out_shardings=self._layout())(start, learnt, lora)
            require_finite(params, f"fine-tuning {name}: the merged parameters", f"lower {rate}")
        if lora is not None and alone:
            self._save(name, functools.partial(save_adapters, adapters=learnt, lora=lora, of=of), record, report.rows())
        else:
            self._save(name, functools.partial(save_model, params=params), record, report.rows())
        self._keep(name)
        self._masters.put(name, params)

    def _referred(
        self, pools: PoolMap, name: str, start: Any, section: TrainSection, seed: int, objective: Objective
    ) -> PoolMap:
        """The pools with what the objective reads of each example under `start`."""
        made = made_by(objective.reads)
        check_extras(pools, [extra for extra in objective.reads if extra not in made])
        bench, settings = self._bench, train_settings(section, seed, objective=objective)

        def read(examples: Sequence[Example], done: Callable[[int], None]) -> Sequence[StartExtras]:
            return start_extras(start, bench.model, examples, bench.mesh, settings, done)

        return with_references(pools, name, self._dir, self._reporter, read, made)

    def _layout(self) -> Any:
        return param_shardings(self._bench.model, self._bench.mesh, TRAIN_RULES)

    def _states(self, name: str) -> TrainingStore:
        return TrainingStore(self._dir.training_states(name), self._dir.check)

    def _settings(
        self, name: str, section: TrainSection, batches: Batches, seed: int, objective: Objective
    ) -> TrainConfig:
        """The settings of a fine-tuning, its length in steps."""
        if section.epochs is None:
            return train_settings(section, seed, objective=objective)
        settings = train_settings(section, seed, batches.steps_in(section.epochs), objective)
        self._reporter.line(f"  fine-tuning {name}: {section.epochs:g} epochs are {settings.steps} steps")
        if settings.warmup_steps < (section.warmup_steps or 0):
            key = _section_of(name)
            self._reporter.warn(
                f"{key}.warmup_steps is {section.warmup_steps}, but {section.epochs:g} epochs are {settings.steps} "
                f"steps; {settings.warmup_steps} are taken. Set {key}.warmup_steps lower, or more epochs"
            )
        return settings

    def _save(self, name: str, save: Callable[..., Any], record: dict[str, Any], steps: Iterable[Any]) -> None:
        """Writes a checkpoint with the record of its training and its steps' losses."""
        bench, folder = self._bench, self._dir.checkpoint(name)
        self._dir.forget(folder)
        metadata = {"name": name, "seed": bench.config.seed, "model": bench.source.origin, "training": record}
        files = {**bench.tokenizer.files(), LOSSES: b"".join(jsonl_lines(steps))}
        aside = save(folder, config=bench.model, tokenizer_files=files, metadata=metadata, allowed=self._dir.check)
        tell_aside(aside, self._reporter)


def _section_of(name: str) -> str:
    return "meta" if name == META else "learn"


def tell_aside(found: Iterable[object], reporter: Reporter) -> None:
    """Warns of what was broken off, and is in quarantine now."""
    for place in map(str, found):
        partial = "tmp" in place.rpartition("/")[2]
        copied = "" if partial else f". If it is a whole copy, put an empty {MARK} into it and move it back"
        reporter.warn(
            f"its writing was broken off; it is moved to quarantine, and the run does without it: {place}{copied}"
        )
