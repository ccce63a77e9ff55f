"""The start of a run: everything that could stop it later, and can be seen now, is looked at."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from selfevo_jax import hosts
from selfevo_jax.accelerators import overlooked
from selfevo_jax.chains import words_notice
from selfevo_jax.checkpoint import model_checksum
from selfevo_jax.config import Config, unread
from selfevo_jax.data import PromptRow, source_checksum
from selfevo_jax.data.annotated import format_notice
from selfevo_jax.errors import ConfigError, Faults
from selfevo_jax.judges.endpoint import server_notice
from selfevo_jax.model import param_count
from selfevo_jax.native import calls as native
from selfevo_jax.native.build import problem
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.amounts import little_notices
from selfevo_jax.rounds.checkpoints import Checkpoints, Told, tell_aside
from selfevo_jax.rounds.dealing import given, gold_of
from selfevo_jax.rounds.judging import check_judge
from selfevo_jax.rounds.limits import check_first_round
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.meta_stage import check_verdicts
from selfevo_jax.rounds.open_sets import OpenSet, open_notices, open_prints, open_sets
from selfevo_jax.rounds.ordinary import Ordinary, check_ordinary, ordinary_print, ordinary_rows
from selfevo_jax.rounds.outside import tell_code
from selfevo_jax.rounds.prompts import check_writing
from selfevo_jax.rounds.survey import fit_lengths, open_phases, run_phases
from selfevo_jax.rounds.workbench import Workbench, open_workbench
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.scorers import code_checksums
from selfevo_jax.tasks import Task, open_task
from selfevo_jax.train import TrainSection, check_settings, train_settings
from selfevo_jax.train.objectives.base import MADE
from selfevo_jax.train.rates import rate_notices


def open_loop(config: Config, reporter: Reporter, told: Told) -> Loop:
    """Opens the run of a config, begun or not, and owns it until its `dir` is closed. `told`: see `Checkpoints`."""
    dir = RunDir(config.run_dir)
    task, bench, sets, ordinary = prepare(config, reporter, dir.append_cost)
    if (before := dir.open(config, fingerprints(config, task, bench, reporter))) is not None:
        reporter.line(f"{dir.root}: taken over from {before}, which is gone")
    tell_code(dir, config, reporter)
    loop = Loop(config, reporter, task, dir, bench, Checkpoints(bench, dir, reporter, told), sets, ordinary)
    loop.tell_notes()
    tell_aside(dir.aside, reporter)
    for name in dir.finish_removals():
        reporter.line(f"  the removal of checkpoint {name} had been broken off; it is finished (saving.keep_last)")
    return loop


def prepare(
    config: Config, reporter: Reporter, record: Callable[[dict[str, Any]], None] | None = None
) -> tuple[Task, Workbench, dict[str, OpenSet], Ordinary | None]:
    """Task, workbench, open-ended sets and ordinary answers of a run; says what the user should know of them.

    Raises SelfevoError with everything that could stop the run later, and can be seen without its directory.
    """
    faults = Faults()
    task, bench, sets, ordinary = look_over(config, reporter, faults, reporter.warn, record)
    faults.refuse()
    assert task is not None
    assert bench is not None
    fit_to_run(bench, task, sets)
    return task, bench, sets, ordinary


def fit_to_run(bench: Workbench, task: Task, sets: Mapping[str, OpenSet]) -> None:
    """Chooses the shapes of the sampler's programs by all that the run samples."""
    fit_lengths(bench, [*run_phases(bench, task), *open_phases(bench, sets.values())])


def look_over(
    config: Config,
    reporter: Reporter,
    faults: Faults,
    on_server: Callable[[str], None],
    record: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[Task | None, Workbench | None, dict[str, OpenSet], Ordinary | None]:
    """What of a run can be made, and is looked at; what cannot be is None, and among the faults.

    `on_server` is told of servers that cannot be asked now: a run asks them only when it has come so far.
    """
    task = faults.of(lambda: open_task(config))
    sets = faults.of(lambda: open_sets(config)) or {}
    rows = faults.of(lambda: ordinary_rows(config, reporter.warn)) or []
    if task is not None:
        faults.of(lambda: check_ordinary(rows, task, config.rounds))
    bench = faults.of(lambda: open_workbench(config, record))
    faults.of(lambda: _look_at_servers(config, on_server))
    ordinary = None
    if task is not None and bench is not None:
        _check(config, task, bench, reporter, faults)
        ordinary = faults.of(lambda: Ordinary.of(rows, bench))
        said = faults.of(lambda: [*open_notices(bench, sets)]) or []
        counted = {name: len(of.rows) for name, of in task.evaluation().items()}
        counted |= {name: len(of.rows) for name, of in sets.items()}
        said += little_notices(config, len(given(config, task, 1)), counted)
        said += [*rate_notices(config.trained, param_count(bench.model)), *unread(config)]
        for line in (*said, config.rounds.notice(), None if ordinary is None else ordinary.notice()):
            if line is not None:
                reporter.warn(line)
    return task, bench, sets, ordinary


def _check(config: Config, task: Task, bench: Workbench, reporter: Reporter, faults: Faults) -> None:
    """What can be said of the rows and the workbench together."""

    def settings(name: str, section: TrainSection) -> None:
        try:
            fine_tuning = train_settings(section, config.seed)
            check_settings(fine_tuning, bench.mesh)
            reads = fine_tuning.objective.reads
            if name == "meta" and (lacking := [extra for extra in reads if extra not in MADE]):
                raise ConfigError(f"objective.name: rows of D_meta and D_QA have no '{lacking[0]}'; set it to sft")
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error

    for name, section in (("meta", config.meta), ("learn", config.learn)):
        if section.steps != 0:
            faults.of(functools.partial(settings, name, section))
    if task.has_meta and task.questions() is None:
        files = task.files()
        source = next((files[key] for key in files if key.startswith("data.meta")), "D_meta")
        faults.of(lambda: check_verdicts(task.meta_rows(()).rows, bench.judge, source))
    lost: str | None = None
    first = given(config, task, 1)
    if config.rounds.number > 0:
        lost = faults.of(lambda: check_first_round(config, first, bench.format))
        faults.of(lambda: check_judge(bench, task, first))
        faults.of(lambda: _check_chain(bench, task, first))
    writing = faults.of(lambda: check_writing(config, task, bench))
    labels = [f"{name} reads labels in its rounds: a baseline, no self-improvement" for name in bench.label_readers]
    platform = overlooked(jax.devices()[0].platform) if config.platform == "auto" else None
    engine = bench.engine
    kernels = problem() if native.fits(engine.mesh, engine.dtype, engine.param_dtype) else None
    words = words_notice(bench.judge, bench.format, bench.tokenizer.decode)
    meta = config.data.meta_skill
    other = None if meta is None else format_notice(meta.source, config.format)
    for said in (*task.notices(), other, bench.format.notice(), lost, writing, *labels, words, platform, kernels):
        if said is not None:
            reporter.warn(said)


def _check_chain(bench: Workbench, task: Task, first: Sequence[PromptRow]) -> None:
    """Raises SelfevoError where the method can make no chain of the first prompt."""
    gold = gold_of(bench.config, task, 1) if bench.method.reads_labels else {}
    for row in first[:1]:
        bench.method.chain(bench, gold.get(row.id, row), bench.stages(), round=1, sample=0)


def _look_at_servers(config: Config, tell: Callable[[str], None]) -> None:
    """What is seen of the servers that judge, as process 0 sees it."""
    given = [config.judge.server, *(of.endpoint for of in config.data.open_ended.values())]
    servers = {(one.url, one.model): one for one in given if one is not None}
    if not servers:
        return
    said = hosts.agree("looking at the servers that judge", lambda: [server_notice(one) for one in servers.values()])
    for one in said:
        if one is not None:
            tell(one)


def fingerprints(config: Config, task: Task, bench: Workbench, reporter: Reporter) -> dict[str, str]:
    """What the stored artefacts rest on besides the config: a change is refused on resume."""
    prints = {key: source_checksum(source) for key, source in task.files().items()}
    own = config.data.self_written
    if own is not None and own.seeds is not None:
        prints["data.self_written.seeds"] = source_checksum(own.seeds.source)
    for name, of in config.data.evaluation.items():
        prints |= code_checksums(of.scorers, f"data.evaluation.{name}.scorers")
    with hosts.working("reading the model for its checksum"):
        prints |= dict(open_prints(config, reporter)) | ordinary_print(config)
        prints["model"] = model_checksum(config.model.source, reporter)
    return prints | {"tokenizer": bench.tokenizer.fingerprint, "format": bench.format.fingerprint}
