"""What a run has to tell, in one order: the same whether it is followed while it goes on or read when it is over.

Each event follows from finished files of the run directory, and comes behind all that were before it. So the first
events of a run stay what they are, whatever comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from selfevo_jax.chains import Rollout
from selfevo_jax.config import Config
from selfevo_jax.evaluate import paired
from selfevo_jax.run.costs import end_of, sampling_costs, training_record
from selfevo_jax.run.files import read_json, read_rows, rows_of, understood
from selfevo_jax.run.identity import flat
from selfevo_jax.run.names import COMMITTED, LOSSES, META, name_of
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.trackers import Event, Scalars, Settings, Texts

BASE_ROUND = -1
"""Where the base is on the axis of rounds; M_meta is 0."""
_MODES = ("direct", "refined", "consistency", "both")
_FAULTS = ("failed", "not_scored", "no_answer", "clipped")
_CHAINS = 3
"""Of each round that are shown as texts."""


@dataclass(frozen=True)
class Part:
    """Events that one finished phase tells."""

    ready: Callable[[], bool]
    events: Callable[[], list[Event]]
    trains: str | None = None
    """The checkpoint, where the events are the steps of its fine-tuning."""


class Events:
    """The events of a run from one of them on, as far as they can be told.

    Steps of a fine-tuning that goes on are told by the process that runs it (`step`); every other event, and those of
    steps that nobody told, are read.
    """

    def __init__(self, run: RunDir, first: int = 0) -> None:
        """`first`: the number of the first event that is wanted, from 0."""
        self._run, self._skip = run, first
        self._parts = _parts(run, run.read_config())
        self._part = next(self._parts)
        self._steps = 0
        """Of fine-tunings that are finished."""
        self._told = 0
        """Events of the part that is not ready."""

    def read(self) -> list[Event]:
        """The next events that files tell, those of one phase at most; none where the next phase is not finished."""
        while self._part.ready():
            events = self._part.events()
            if self._part.trains is not None:
                events = [_moved(event, self._steps) for event in events]
                self._steps += len(events)
            new = events[self._told :]
            self._told = 0
            self._part = next(self._parts)
            if wanted := self._wanted(new):
                return wanted
        return []

    def step(self, name: str, row: Mapping[str, float]) -> list[Event]:
        """The event of one step of the fine-tuning that makes a checkpoint, where it is the next one."""
        if self._part.trains != name:
            return []
        if self._skip and row["step"] <= self._skip:  # told by a process before
            return []
        if self._skip:
            self._told, self._skip = self._skip, 0
        if row["step"] != self._told + 1:
            return []
        self._told += 1
        return [_moved(_step(row), self._steps)]

    def _wanted(self, events: list[Event]) -> list[Event]:
        skipped = min(self._skip, len(events))
        self._skip -= skipped
        return events[skipped:]


def _parts(run: RunDir, config: Config) -> Iterator[Part]:
    yield Part(lambda: True, lambda: [Settings(dict(flat(config.model_dump(mode="json"))))])
    yield _measured(run, config, "base", BASE_ROUND)
    for number in count():
        if number:
            yield _chains(run, number)
        yield _training(run, number)
        yield _finished(run, number)
        yield _measured(run, config, name_of(number), number)


# --- steps


def _training(run: RunDir, number: int) -> Part:
    name = name_of(number)
    file = run.checkpoint(name) / LOSSES

    def events() -> list[Event]:
        with understood(file):
            return [_step(row) for row in (read_rows(file) if file.exists() else [])]

    return Part(end_of(run, number).exists, events, trains=name)


def _step(row: Mapping[str, float]) -> Scalars:
    """Of a step of fine-tuning."""
    values = {f"train/{key}": float(value) for key, value in row.items() if key != "step"}
    return Scalars("step", int(row["step"]), values)


def _moved(event: Event, steps: int) -> Event:
    """A step of one fine-tuning among those of the whole run."""
    return Scalars(event.axis, event.at + steps, event.values) if isinstance(event, Scalars) else event


# --- rounds


def _chains(run: RunDir, number: int) -> Part:
    part = run.round(number, "rollouts/part-00000.jsonl")

    def events() -> list[Event]:
        with understood(part):
            rollouts = [Rollout.from_dict(row) for row in _first_rows(part, _CHAINS)]
        return [Texts(number, {f"chains/{place}": chain_text(r) for place, r in enumerate(rollouts, 1)})]

    return Part(run.round(number, "rollouts/manifest.json").exists, events)


def _first_rows(file: Path, rows: int) -> list[dict[str, Any]]:
    with file.open("rb") as lines:
        return rows_of(b"".join(islice(lines, rows)))


def chain_text(rollout: Rollout) -> str:
    """A chain as a person reads it."""
    lines = [f"prompt: {rollout.prompt.strip()}"]
    for index, candidate in enumerate(rollout.candidates):
        lines.append(f"{'response' if index == 0 else 'refinement'}: {candidate.text.strip()}")
        if candidate.feedback is not None:
            lines += candidate.feedback.lines()
    return "\n".join([*lines, f"chosen: {'the response' if rollout.chosen == 0 else f'refinement {rollout.chosen}'}"])


def _finished(run: RunDir, number: int) -> Part:
    """What a round's record says, and what the round has cost; round 0 is the making of M_meta."""

    def events() -> list[Event]:
        file = run.round(number, "metrics.json")
        with understood(file):
            values = dict(_funnel(read_json(file))) if number else {}
        values |= _training_cost(training_record(run, number))
        name = name_of(number)
        owns = {name, "base"} if name == META else {name}
        values |= _sampling_cost(run, owns, evaluation=False)
        return [Scalars("round", number, values)]

    return Part(end_of(run, number).exists, events)


def _funnel(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield from _numbers("funnel", metrics["counts"])
    yield from _numbers("written", metrics.get("written") or {})
    if (controls := metrics.get("controls")) is not None:
        yield from _numbers("controls", controls)
    for what in ("first", "candidates", "kept"):
        yield from _share(f"data/{what}", (metrics.get("data_accuracy") or {}).get(what))


def _training_cost(told: Mapping[str, Any]) -> dict[str, float]:
    return dict(_numbers("cost/training", {key: told.get(key) for key in ("seconds", "tokens", "padding_share")}))


def _sampling_cost(run: RunDir, names: set[str], evaluation: bool) -> dict[str, float]:
    """Of the phases of some checkpoints, summed up by their kinds: those that measure, or the others."""
    found: dict[str, float] = {}
    for cost in sampling_costs(run):
        if cost.of in names and (cost.kind == "evaluation") == evaluation:
            figures = {"seconds": cost.seconds, "tokens": cost.tokens, "prompt_tokens": cost.prompt_tokens}
            for key, value in figures.items():
                name = f"cost/{cost.kind}/{key}"
                found[name] = found.get(name, 0.0) + value
            if cost.floor_share is not None:
                found[f"cost/{cost.kind}/floor_share"] = cost.floor_share
    return found


# --- what is measured


def _measured(run: RunDir, config: Config, name: str, number: int) -> Part:
    others = [run.ordinary(name)] if config.data.ordinary is not None else []
    others += [run.open_ended(name)] if config.data.open_ended else []

    def ready() -> bool:
        if not (_has_all_sets(run, config, name) and all(file.exists() for file in others)):
            return False
        return not config.data.open_ended or len(read_json(run.open_ended(name))) >= len(config.data.open_ended)

    def events() -> list[Event]:
        values: dict[str, float] = {}
        for file in (run.evaluation(name), *others):
            if file.exists():
                with understood(file):
                    values |= dict(_figures(run, name, file))
        values |= _sampling_cost(run, {name}, evaluation=True)
        return [Scalars("round", number, values)] if values else []

    return Part(ready, events)


def _has_all_sets(run: RunDir, config: Config, name: str) -> bool:
    """Of a task from outside the run alone knows the sets: the base is measured on all before what comes next."""
    file, base = run.evaluation(name), run.evaluation("base")
    if config.data.task is None:
        wanted = len(config.data.set_names)
    elif name == "base":
        return any(run.meta(mark).exists() for mark in ("meta_skill.jsonl", COMMITTED))
    else:
        wanted = len(read_json(base)) if base.exists() else 0
    return not wanted or (file.exists() and len(read_json(file)) >= wanted)


def _figures(run: RunDir, name: str, file: Path) -> Iterator[tuple[str, float]]:
    told = read_json(file)
    if file == run.evaluation(name):
        meta = read_json(run.evaluation(META)) if name.isdecimal() else {}
        for set_name, figures in told.items():
            yield from _of_set(set_name, figures)
            if set_name in meta:
                yield from _gain(set_name, meta[set_name], figures)
    elif file == run.ordinary(name):
        yield from _numbers("ordinary", {"log_likelihood": told["log_likelihood"]["value"]})
        yield from _numbers("ordinary", {"log_likelihood_stderr": told["log_likelihood"]["stderr"]})
    else:
        for set_name, figures in told.items():
            yield from _of_open_set(set_name, figures)


def _of_set(name: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for mode in _MODES:
        yield from _accuracy(f"accuracy/{name}/{mode}", figures.get(mode))
        for scorer, by_mode in (figures.get("further") or {}).items():
            yield from _accuracy(f"accuracy/{name}/{mode}/{scorer}", by_mode.get(mode))
    yield from _numbers(f"flips/{name}", {key: figures.get(key) for key in ("right_to_wrong", "wrong_to_right")})
    if (verdict := figures.get("verdict")) is not None:
        for what in ("accuracy", "precision", "recall"):
            yield from _share(f"verdict/{name}/{what}", verdict[what])
        yield from _numbers(f"verdict/{name}", {"unparseable": verdict["unparseable"]})
    if (texts := figures.get("texts")) is not None:
        for fault in ("clipped", "looping", "leaked"):
            yield from _share(f"texts/{name}/{fault}", texts[fault])
        yield from _numbers(f"texts/{name}", {"distinct_bigrams": texts["distinct_bigrams"]})
        yield from _numbers(f"texts/{name}", {"length": texts["length"]["value"]})


def _accuracy(name: str, found: Mapping[str, Any] | None) -> Iterator[tuple[str, float]]:
    yield from _share(name, found)
    if found is not None:
        lost = {f"{name}_{fault}": found.get(fault) for fault in _FAULTS}
        yield from ((key, float(value)) for key, value in lost.items() if value)


def _gain(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Of direct answers, against M_meta on the same rows."""
    found = paired(before["right"]["direct"], after["right"]["direct"])
    if found is not None:
        yield from _numbers(f"gain/{name}", {"gain": found.gain, "stderr": found.stderr, "p": found.p})


def _of_open_set(name: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    told = {"win_rate": (figures.get("win_rate") or {}).get("rate"), "rating": figures.get("rating")}
    for what, found in told.items():
        if found is not None:
            yield from _numbers(f"open/{name}", {what: found["value"], f"{what}_stderr": found["stderr"]})


# --- numbers


def _share(name: str, found: Mapping[str, Any] | None) -> Iterator[tuple[str, float]]:
    """A `Proportion` with the ends of its interval; nothing where nothing was measured."""
    if found is not None and found["share"] is not None:
        yield name, float(found["share"])
        yield f"{name}_low", float(found["low"])
        yield f"{name}_high", float(found["high"])


def _numbers(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{name}/{key}", float(value)
