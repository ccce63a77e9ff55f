"""What would stop a run, all of it at once, and what the run would take: looked at before it is begun."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selfevo_jax.config import Config
from selfevo_jax.data import Unit, meta_balance
from selfevo_jax.errors import ConfigError, EmptySelectionError, Faults, SelfevoError
from selfevo_jax.methods.lessons import supervised_examples
from selfevo_jax.methods.mixture import fitted
from selfevo_jax.model import param_count
from selfevo_jax.plan.counted import training_bytes
from selfevo_jax.plan.remedies import training_remedies
from selfevo_jax.progress import Reporter, counted
from selfevo_jax.rounds.dealing import given
from selfevo_jax.rounds.generate import chain_tokens
from selfevo_jax.rounds.opening import fingerprints, fit_to_run, look_over
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.run.look import require_joinable
from selfevo_jax.run.retention import require_room, training_room
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.sample import available_bytes
from selfevo_jax.sample.memory import gib
from selfevo_jax.start.defaults import BARE
from selfevo_jax.start.found import EXACT
from selfevo_jax.start.texts import Texts, measure_texts
from selfevo_jax.start.time import TimeOfRound, time_of_round
from selfevo_jax.storage import is_remote, storage_of
from selfevo_jax.tasks import Task
from selfevo_jax.train import TrainConfig, TrainSection, train_settings


@dataclass
class Checked:
    """What was seen; nothing was written."""

    faults: list[str] = field(default_factory=list)
    """What would stop the run, each with its remedy."""
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    """What the run is, in lines."""
    time: TimeOfRound | None = None


class _Heard(Reporter):
    """Keeps what a run would be warned of."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def check(config: Config, measure: bool = True) -> Checked:
    """Opens everything that a run of this config opens at its start, and looks at what it would meet later: lengths,
    memory, disk, servers, and its directory. `measure`: also the machine's rates, for the time of a round."""
    heard, faults, unreachable = _Heard(), Faults(), list[str]()
    found = Checked(warnings=heard.warnings)
    task, bench, sets, _ = look_over(config, heard, faults, unreachable.append)
    for line in unreachable:
        faults.add(SelfevoError(f"{line}; start it, or correct its url, model or key_variable"))
    found.warnings += _trackers(config)
    run = faults.of(lambda: RunDir(config.run_dir))
    if run is not None:
        faults.of(lambda: _writable(run.root))
        faults.of(lambda: require_joinable(run, config, _prints(config, task, bench, run, heard)))
    if bench is not None:
        found.facts += _of_model(bench)
        _memory(bench, faults, found)
        if run is not None:
            _disk(bench, run, faults, found)
    if task is not None and bench is not None:
        groups = faults.of(lambda: _taught(config, task, bench, heard)) or {}
        texts = _texts(config, task, bench)
        found.facts += _of_rows(config, task, texts)
        found.warnings += [*_of_meta(task), *_of_exact(config)]
        _cut(config, bench, texts, found)
        if measure and not faults:
            fit_to_run(bench, task, sets)
            found.time = time_of_round(bench, task, texts, groups)
    try:
        faults.refuse()
    except SelfevoError as error:
        found.faults += error.faults
    return found


def _trackers(config: Config) -> Iterator[str]:
    """Those that cannot work here: a run goes on without them."""
    for n, section in enumerate(config.track):
        try:
            section.open(f"track.{n}")
        except SelfevoError as error:
            yield f"{error}. A run goes on without it"


def _prints(
    config: Config, task: Task | None, bench: Workbench | None, run: RunDir, reporter: Reporter
) -> dict[str, str] | None:
    """What a run that is there is compared by; None where that cannot be made, or there is nothing to compare."""
    if task is None or bench is None or not run.is_begun():
        return None
    return fingerprints(config, task, bench, reporter)


def _writable(root: Path) -> None:
    if is_remote(root):
        return
    there = next(place for place in (root, *root.parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there}: this user may not write there; name another run_dir, or change the rights to it")


def _of_model(bench: Workbench) -> list[str]:
    config, model = bench.config, bench.model
    devices = bench.mesh.devices.flatten().tolist()
    return [
        f"model: {bench.source.origin}, {param_count(model):,} parameters, format {config.format.kind}",
        f"devices: {len(devices)} x {devices[0].device_kind} ({devices[0].platform}); {bench.slots}",
    ]


def _of_rows(config: Config, task: Task, texts: Texts | None) -> list[str]:
    found = [f"prompts of round 1: {len(task.prompts(1)):,}" + (f", {texts.prompt}" if texts is not None else "")]
    if task.has_meta and task.questions() is None:
        found.append(f"D_meta: {counted(len(task.meta_rows(()).rows), 'row')}")
    elif task.has_meta:
        found.append("D_meta: made of the base's own answers, when the run begins")
    found += [f"evaluation set '{name}': {counted(len(of.rows), 'row')}" for name, of in task.evaluation().items()]
    return found


def _of_meta(task: Task) -> list[str]:
    """What is to be said of rows of D_meta that are there."""
    if not task.has_meta or task.questions() is not None:
        return []
    return meta_balance(task.meta_rows(()).rows).warnings


def _of_exact(config: Config) -> Iterator[str]:
    """Sets whose scorer wants the bare answer, where a chat model is not asked for it."""
    asked = config.format.filled()
    sets = [name for name, of in config.data.evaluation.items() if of.scorers[0].kind == EXACT]
    if sets and asked.kind == "chat" and asked.system is None and asked.respond == "{prompt}":
        yield (
            "format.respond asks each prompt as it is: a chat model answers in sentences, and the scorer "
            f"'{EXACT}' (evaluation set {', '.join(map(repr, sets))}) takes only the bare answer for right. Where the "
            f"prompts do not ask for it themselves, set format.respond to {json.dumps(BARE)}"
        )


def _texts(config: Config, task: Task, bench: Workbench) -> Texts | None:
    prompts = [row.prompt for row in given(config, task, 1)]
    if not prompts:
        return None
    meta = task.meta_rows(()).rows if task.has_meta and task.questions() is None else ()
    return measure_texts(prompts, list(meta), bench.format, bench.tokenizer)


def _taught(config: Config, task: Task, bench: Workbench, reporter: Reporter) -> Mapping[str, Sequence[Unit]]:
    """The examples of D_meta and D_QA as meta-skill learning would take them; none where they are not known yet."""
    if config.meta.steps == 0 or (task.has_meta and task.questions() is not None):
        return {}
    rows = task.meta_rows(()).rows if task.has_meta else ()
    groups = supervised_examples(rows, task.qa_rows(), bench.format, config.meta)
    try:
        return fitted(groups, config.meta, reporter, "meta")
    except EmptySelectionError as error:
        raise ConfigError(str(error)) from error


def _cut(config: Config, bench: Workbench, texts: Texts | None, found: Checked) -> None:
    """Where a chain whose texts are as long as is usual does not fit into a slot, or an answer not into a row. That all
    texts of a chain reach their limits is rare, and no fault: what is cut is counted."""
    if texts is None or config.rounds.number == 0:
        return
    room = config.sampling.cache_length
    usual, lengths = texts.prompt.at(0.5), texts.expected(config)
    turns = lengths.turns if lengths.draws.feedback else None
    likely = (lengths.respond, lengths.feedback, lengths.refine)
    expected, needed = (usual + chain_tokens(config, bench.format, turns, of) for of in (likely, None))
    if expected > room:
        found.warnings.append(
            f"a prompt of {usual} tokens, the middle one, with texts as long as D_meta's (without D_meta half their "
            f"limits) takes {expected} tokens, but sampling.cache_length is {room}: texts will be cut. {needed} would "
            "hold all"
        )
    elif needed > room:
        found.facts.append(
            f"a chain: {expected} tokens with texts as long as D_meta's (without D_meta half their limits), {needed} "
            f"with all at their limits; sampling.cache_length holds {room}"
        )
    answered = usual + texts.at_most(config).answer
    if answered > config.learn.length:
        found.warnings.append(
            f"a prompt of {usual} tokens, the middle one, with an answer as long as it may be has {answered} tokens, "
            f"but learn.length is {config.learn.length}: such rows are dropped, and counted"
        )


def _memory(bench: Workbench, faults: Faults, found: Checked) -> None:
    """A fine-tuning whose parameters, moments and gradients alone do not fit cannot run."""
    config, available = bench.config, available_bytes(bench.mesh)
    needed = {}
    for name, section in config.trained.items():
        if _settings(config, section) is None:
            continue
        needed[name] = sum(training_bytes(config, section, bench.model, bench.mesh).values())
        if needed[name] > available:
            first, *_ = training_remedies([name], section, bench.mesh.shape)
            faults.add(
                ConfigError(
                    f"{name}: its parameters, moments, gradients and what is held beside them take {gib(needed[name])} "
                    f"on each device, without activations, and {gib(available)} can be had; try {first}"
                )
            )
    told = ", ".join(f"{name} {gib(size)}" for name, size in needed.items())
    if told:
        found.facts.append(f"memory of a device without activations: {told}; {gib(available)} can be had")


def _disk(bench: Workbench, run: RunDir, faults: Faults, found: Checked) -> None:
    config, free = bench.config, storage_of(run.root).free(run.root)
    rooms = {}
    for name, section in config.trained.items():
        alone = section.lora is not None and section.lora.save == "adapters"
        if (settings := _settings(config, section)) is not None:
            rooms[name] = training_room(bench.model, settings.lora, alone)
    most = max(rooms.values(), default=0)
    faults.of(lambda: require_room(run.root, most, "a fine-tuning"))
    count = min(config.rounds.number, config.saving.keep_last or config.rounds.number) + 1
    checkpoints = 4 * param_count(bench.model) * count
    free_told = "" if free is None else f"; {free / 1e9:.1f} GB are free"
    found.facts.append(
        f"disk: a fine-tuning takes {most / 1e9:.2f} GB on its way, {count} checkpoints {checkpoints / 1e9:.2f} GB at "
        f"most{free_told}"
    )
    if free is not None and most <= free < most + checkpoints:
        found.warnings.append(
            f"{run.root}: the disk may be full before the run is done; make room, or set saving.keep_last"
        )


def _settings(config: Config, section: TrainSection) -> TrainConfig | None:
    """None for settings that cannot be, which are among the faults already."""
    return Faults().of(lambda: train_settings(section, config.seed))
