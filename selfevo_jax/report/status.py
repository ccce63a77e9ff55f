"""Where a run is and what is left, phase by phase, read from its directory alone (safe on a live run)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfevo_jax.config import Config
from selfevo_jax.progress import counted, duration, in_words, rate
from selfevo_jax.report.texts import ordinary_line
from selfevo_jax.run.files import read_json, understood
from selfevo_jax.run.lock import STALE_SECONDS, Owner, RunLock
from selfevo_jax.run.names import COMMITTED, META, META_COUNTS, STOPPED, WRITTEN_COUNTS, WRITTEN_TEXTS, name_of
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.run.session import COMPLETE, FAILED, Going, Session, last_session
from selfevo_jax.storage import storage_of
from selfevo_jax.train import TrainSection

DONE, PARTLY, LEFT = "done", "partly", "left"


@dataclass(frozen=True)
class Phase:
    """One step of a run."""

    name: str
    state: str
    """DONE, PARTLY or LEFT."""
    detail: str = ""
    at: float | None = None
    """Unix seconds: when it was done, or last went on."""


@dataclass(frozen=True)
class Status:
    run_dir: str
    owner: str | None
    """The process that runs it, and when it last gave a sign of life; None where it is not running."""
    stopped: str | None
    """Why the run ended before its last round."""
    phases: list[Phase]
    labels: str | None = None
    """What reads gold answers inside the rounds; None where nothing is known to."""
    now: Going | None = None
    """What the process that runs it is doing; None where it is not running, or has not said so."""
    last_stop: str | None = None
    """How the last process ended; None while one runs, and where it made all that there was to do."""

    @property
    def left(self) -> int:
        return 0 if self.stopped else sum(phase.state != DONE for phase in self.phases)

    def to_dict(self) -> dict[str, Any]:
        seconds = None if self.now is None else self.now.seconds_left()
        return asdict(self) | {"left": self.left, "now_seconds_left": seconds}

    def lines(self) -> list[str]:
        """For people."""
        found = [f"{self.run_dir}: " + (self.owner or "not running")]
        if self.now is not None:
            found.append(f"  now: {in_progress(self.now)}")
        if self.last_stop is not None:
            found.append(f"  last stop: {self.last_stop}")
        for phase in self.phases:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(phase.at)) if phase.at else ""
            found.append(f"  {phase.state:<6} {phase.name:<24} {when:<19}  {phase.detail}".rstrip())
        if self.labels is not None:
            found.append(f"Labels are read in the rounds, by {self.labels}: a baseline, no self-improvement.")
        if self.stopped:
            return [*found, f"The run has ended early: {self.stopped}."]
        return [*found, f"{self.left} of {len(self.phases)} phases are left." if self.left else "All is done."]


def status(run: RunDir) -> Status:
    """Raises ConfigError where no run lies, SelfevoError for what no run has written."""
    config = run.read_config()
    with understood(run.root):
        return _status(run, config)


def _status(run: RunDir, config: Config) -> Status:
    sets = evaluation_sets(run, config)

    def measured(name: str) -> list[Phase]:
        gold = _measured(f"evaluate {name}", run.evaluation(name), len(sets))
        given = [] if config.data.ordinary is None else [_ordinary(f"ordinary answers, {name}", run.ordinary(name))]
        return gold + given + _measured(f"judge answers of {name}", run.open_ended(name), len(config.data.open_ended))

    phases = [*measured("base"), *_meta(run, config), *measured(META)]
    for number in range(1, config.rounds.number + 1):
        phases += [*_round(run, config, number), *measured(name_of(number))]
    stopped = run.root / STOPPED
    ended = config.rounds.stop_when_worse and stopped.exists()
    why = f"round {read_json(stopped)['round']} is {read_json(stopped)['why']}" if ended else None
    seen, session = RunLock(run.root).seen(), last_session(run)
    now = session.task if seen and session and session.end is None and session.is_of(seen[0]) else None
    stop = _last_stop(session, None if seen is None else seen[0])
    return Status(str(run.root), _owner(seen), why, phases, label_reader(run, config), now, stop)


def _owner(seen: tuple[Owner, float] | None) -> str | None:
    if seen is None:
        return None
    owner, age = seen[0], max(0.0, seen[1])
    silent = "" if age <= STALE_SECONDS else ": it may be gone; the next `selfevo evolve` takes over from it"
    return f"running: {owner} (last sign of life {age:.0f} s ago{silent})"


def in_progress(task: Going) -> str:
    """A task in one line: how far it is, how fast, and when it is done."""
    found = f"{task.title}: {task.done:,} of {task.total:,} {task.unit}"
    left = task.seconds_left()
    if task.rate:
        found += f", {rate(task.rate, task.unit)}"
    if task.note:
        found += f", {task.note}"
    if left is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + left))
        found += f", {duration(left)} left (until {at})"
    return found


def _last_stop(session: Session | None, owner: Owner | None) -> str | None:
    """Why the last process ended, and where; None for one that still works, or that has done all that was to do."""
    if session is None or session.end == COMPLETE or (owner is not None and session.is_of(owner)):
        return None
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(session.at))
    task = session.task
    where = "" if task is None else f", in {task.title} ({task.done:,} of {task.total:,} {task.unit})"
    if session.end is None:
        killed = "ended without a word: killed, out of memory, or the machine went down"
        return f"{session.owner}, {killed}; last heard at {at}{where}"
    if session.end == FAILED:
        return f"error at {at}{where}: {session.said}"
    return f"{session.end} at {at}{where}: {session.said}"


def label_reader(run: RunDir, config: Config) -> str | None:
    """What reads gold answers inside the rounds, by the config and the records of the first round."""
    metrics = run.round(1, "metrics.json")
    told = read_json(metrics).get("reads_labels", []) if metrics.exists() else []
    known = [f"judge {config.judge.batch.kind}"] if config.judge.batch and config.judge.batch.reads_labels else []
    return " and ".join(dict.fromkeys((*told, *known))) or None


def evaluation_sets(run: RunDir, config: Config) -> list[str]:
    """Names of the sets that a run measures by; of a task from outside, those that the base was measured by."""
    if config.data.task is not None:
        file = run.evaluation("base")
        return list(read_json(file)) if file.exists() else []
    return config.data.set_names


def _time(path: Path) -> float:
    return storage_of(path).modified(path)


def _measured(title: str, file: Path, sets: int) -> list[Phase]:
    """Of a file with the figures of so many sets."""
    if not sets:
        return []
    if not file.exists():
        return [Phase(title, LEFT)]
    have = len(read_json(file))
    return [Phase(title, DONE if have == sets else PARTLY, f"{have} of {sets} sets", _time(file))]


def _ordinary(title: str, file: Path) -> Phase:
    if not file.exists():
        return Phase(title, LEFT)
    return Phase(title, DONE, f"log-likelihood {ordinary_line(read_json(file))}", _time(file))


def _fine_tuning(run: RunDir, name: str, section: TrainSection, done: Path) -> Phase:
    title = f"fine-tune {name}"
    length = f"{section.steps} steps" if section.epochs is None else f"{section.epochs:g} epochs"
    if done.exists():
        return Phase(title, DONE, length, _time(done))
    folder = run.training_states(name)
    saved = [int(part.name) for part in folder.iterdir() if part.name.isdecimal()] if folder.exists() else []
    if saved:
        of = f"of {length}" if section.epochs is None else f"steps of {length}"
        return Phase(title, PARTLY, f"{max(saved)} {of} are saved", _time(folder))
    return Phase(title, LEFT, length)


def _meta(run: RunDir, config: Config) -> list[Phase]:
    rows = run.meta("meta_skill.jsonl")
    made = Phase("D_meta", LEFT)
    if rows.exists():
        counts = run.meta(META_COUNTS)
        told = f" ({in_words(read_json(counts))})" if counts.exists() else ""
        made = Phase("D_meta", DONE, f"{counted(rows.read_bytes().count(10), 'row')}{told}", _time(rows))
    trained = _fine_tuning(run, META, config.meta, run.meta(COMMITTED))
    return [made, trained] if config.data.has_meta else [trained]


def _prompts(run: RunDir, config: Config, number: int) -> list[Phase]:
    """What the model writes for a round; none where all prompts are given."""
    title, wanted = f"round {number}: prompts", config.data.to_write(number)
    counts, texts = run.round(number, WRITTEN_COUNTS), run.round(number, WRITTEN_TEXTS)
    if counts.exists():
        told = read_json(counts)
        refused = [f"{n} {reason}" for reason, n in told["refused"].items() if n]
        detail = f"{told['prompts']} of {told['wanted']} written in {told['texts']} texts"
        detail += f"; refused {', '.join(refused)}" if refused else ""
        return [Phase(title, DONE, detail, _time(counts))]
    lines = storage_of(texts).lines(texts)
    if wanted and (grown := lines.grown()) is not None:
        return [
            Phase(title, PARTLY, f"{counted(lines.read().count(10), 'text')} for {counted(wanted, 'prompt')}", grown)
        ]
    return [Phase(title, LEFT, f"{counted(wanted, 'prompt')} to write")] if wanted else []


def _round(run: RunDir, config: Config, number: int) -> list[Phase]:
    title = f"round {number}: rollouts"
    chains = config.data.prompts_per_round * config.data.samples_per_prompt
    manifest, part = run.round(number, "rollouts/manifest.json"), run.round(number, "rollouts/part-00000.jsonl")
    lines = storage_of(part).lines(part)
    if manifest.exists():
        rollouts = Phase(title, DONE, f"{read_json(manifest)['rows']} chains", _time(manifest))
    elif (grown := lines.grown()) is not None:
        have = lines.read().count(10)
        rollouts = Phase(title, PARTLY, f"{have} of up to {chains} chains", grown)
    else:
        rollouts = Phase(title, LEFT, f"up to {chains} chains")
    return [
        *_prompts(run, config, number),
        rollouts,
        *_judged(run, config, number),
        _fine_tuning(run, name_of(number), config.learn, run.round(number, COMMITTED)),
    ]


def _judged(run: RunDir, config: Config, number: int) -> list[Phase]:
    """What a batch judge says of a round's chains; none where there is no such judge."""
    if config.judge.batch is None:
        return []
    title, by = f"round {number}: judged", config.judge.batch.by
    manifest, answers = run.round(number, "judged/manifest.json"), run.round(number, "judged/answers.jsonl")
    lines = storage_of(answers).lines(answers)
    if manifest.exists():
        return [Phase(title, DONE, f"{read_json(manifest)['rows']} chains ({by})", _time(manifest))]
    if (grown := lines.grown()) is not None:
        return [Phase(title, PARTLY, f"{counted(lines.read().count(10), 'answer')} ({by})", grown)]
    return [Phase(title, LEFT, by)]
