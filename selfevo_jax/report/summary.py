"""A run as data: one row a checkpoint and set, read from the run directory alone (safe on a live run)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

from selfevo_jax.config import Config
from selfevo_jax.report.open_ended import OpenRow, open_record, open_rows
from selfevo_jax.report.status import evaluation_sets, label_reader
from selfevo_jax.report.texts import Measured, OrdinaryRow, Texts, accuracy_change, warnings
from selfevo_jax.run.files import read_json, understood
from selfevo_jax.run.names import BASE, COMMITTED, META, STOPPED, name_of
from selfevo_jax.run.run_dir import RunDir

Figure = dict[str, Any] | None
"""A `Proportion` as plain values; None where something was not measured."""


@dataclass(frozen=True)
class Row:
    """One checkpoint on one evaluation set; `set` is "-" where nothing was evaluated."""

    checkpoint: str
    set: str
    direct: Figure = None
    refined: Figure = None
    consistency: Figure = None
    both: Figure = None
    right_to_wrong: int = 0
    wrong_to_right: int = 0
    verdict: dict[str, Any] | None = None
    scorers: Sequence[str] = ()
    """Their names, the primary one first."""
    further: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scorer beside the primary one -> mode -> its figures."""
    selection: dict[str, Any] | None = None
    """How many rows of the set's source were taken, where some are left out by their values (a `Selection`)."""
    gain: dict[str, Any] | None = None
    """Direct answers against those of M_meta on the same rows: a `Paired` as plain values, and whether it is `better`
    or `worse` measurably."""
    against_base: dict[str, Any] | None = None
    """The same against those of the base."""
    counts: dict[str, Any] | None = None
    """What became of the round's rollouts."""
    kept: int | None = None
    sampled: int | None = None
    data_first: Figure = None
    """Accuracy of the round's first responses."""
    data_candidates: Figure = None
    """Accuracy of the chosen candidates, before the filter."""
    data_kept: Figure = None
    """Accuracy of the rows that passed."""
    controls: dict[str, Any] | None = None
    written: dict[str, Any] | None = None
    """What the model wrote for the round, where it wrote prompts: how many, in how many texts, and what was refused."""
    texts: dict[str, Any] | None = None
    """What the direct answers are as texts, and how often they have a fault against the base's: see `Texts.of_set`."""


@dataclass(frozen=True)
class Summary:
    """The rows of a run, in the order of its checkpoints, and the records of its finished rounds."""

    run_dir: str
    complete: bool
    rows: list[Row]
    rounds: list[dict[str, Any]]
    stopped: int | None = None
    """The round after which `rounds.stop_when_worse` ended the run."""
    labels: str | None = None
    """What reads gold answers inside the rounds."""
    open_ended: list[OpenRow] = field(default_factory=list)
    """Each checkpoint on the sets of open-ended prompts."""
    ordinary: list[OrdinaryRow] = field(default_factory=list)
    """Each checkpoint on the held-out ordinary answers."""
    warnings: list[str] = field(default_factory=list)
    """A sentence for each checkpoint whose texts are worse than the base's."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def checkpoints(summary: Summary) -> list[tuple[str, str]]:
    """Those of a run, finished rounds alone: each as it is shown, and as the run directory names it."""
    rounds = [(f"round {n}", name_of(n)) for n in range(1, len(summary.rounds) + 1)]
    return [(BASE, BASE), (META, META), *rounds]


_FIGURES = (
    *("direct", "refined", "consistency", "both", "right_to_wrong", "wrong_to_right"),
    *("verdict", "scorers", "further", "selection"),
)


Evaluations = Callable[[str], dict[str, Any]]
"""The record of a checkpoint's evaluation by its name; empty where there is none."""


def _rows(
    evaluation: Evaluations,
    texts: Texts,
    name: str,
    shown: str,
    metrics: dict[str, Any] | None = None,
    start: dict[str, Any] | None = None,
) -> list[Row]:
    """One row a set; `start` is the evaluation that gains are counted from."""
    base = {} if name == BASE else evaluation(BASE)
    data, counts = (metrics or {}).get("data_accuracy") or {}, (metrics or {}).get("counts")
    of_round: dict[str, Any] = {
        "counts": counts,
        "kept": counts and counts["kept"],
        "sampled": counts and counts["sampled"],
        "data_first": data.get("first"),
        "data_candidates": data.get("candidates"),
        "data_kept": data.get("kept"),
        "controls": (metrics or {}).get("controls"),
        "written": (metrics or {}).get("written"),
    }
    found = evaluation(name)
    if not found and metrics:
        return [Row(shown, "-", **of_round)]
    rows = []
    for key, figures in found.items():
        of_set = {"direct": figures["direct"], **{name: figures[name] for name in _FIGURES if name in figures}}
        gain, against_base = (_gain((before or {}).get(key), figures) for before in (start, base))
        told = texts.of_set(name, key, figures)
        rows.append(Row(shown, key, **of_set, gain=gain, against_base=against_base, texts=told, **of_round))
    return rows


def _evaluation(run: RunDir, name: str) -> dict[str, Any]:
    file = run.evaluation(name)
    found: dict[str, Any] = read_json(file) if file.exists() else {}
    return found


def _gain(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any] | None:
    return None if before is None else accuracy_change(before["right"]["direct"], after["right"]["direct"])


def summarize(run: RunDir) -> Summary:
    """Reads what is finished. Raises ConfigError when no run lies there, SelfevoError for what no run has written."""
    config = run.read_config()
    with understood(run.root):
        return _summarize(run, config)


def _summarize(run: RunDir, config: Config) -> Summary:
    evaluation = functools.cache(functools.partial(_evaluation, run))
    start = evaluation(META)
    texts = Texts(run, config)
    rows = [*_rows(evaluation, texts, BASE, BASE), *_rows(evaluation, texts, META, META)]
    judged = [*open_rows(run, BASE, BASE), *open_rows(run, META, META)]
    ordinary = [*texts.ordinary(BASE, BASE), *texts.ordinary(META, META)]
    rounds: list[dict[str, Any]] = []
    for number in count(1):
        if not run.round(number, COMMITTED).exists():
            break
        rounds.append(read_json(run.round(number, "metrics.json")))
        name, shown = name_of(number), f"round {number}"
        rows += _rows(evaluation, texts, name, shown, rounds[-1], start)
        judged += open_rows(run, name, shown)
        ordinary += texts.ordinary(name, shown)
    newest = name_of(len(rounds))
    measured = len(evaluation_sets(run, config)) == len(evaluation(newest))
    measured &= len(config.data.open_ended) == len(open_record(run, newest))
    measured &= config.data.ordinary is None or run.ordinary(newest).exists()
    # a run that was ended goes on where the config no longer asks for that
    ended = config.rounds.stop_when_worse and (run.root / STOPPED).exists()
    stopped = read_json(run.root / STOPPED)["round"] if ended else None
    done = run.meta(COMMITTED).exists() and (len(rounds) >= config.rounds.number or stopped is not None)
    labels = label_reader(run, config)
    told = _warnings([BASE, META, *(f"round {n}" for n in range(1, len(rounds) + 1))], rows, ordinary)
    return Summary(str(run.root), done and measured, rows, rounds, stopped, labels, judged, ordinary, told)


def _warnings(shown: Sequence[str], rows: list[Row], ordinary: list[OrdinaryRow]) -> list[str]:
    """`shown`: the checkpoints, the base first."""
    found, first = list[Measured](), next((row.set for row in rows if row.checkpoint == BASE and row.direct), None)
    for checkpoint in shown:
        own = [row for row in rows if row.checkpoint == checkpoint]
        texts = {row.set: row.texts for row in own if row.texts is not None}
        change = next((row.against_base for row in own if row.set == first), None)
        said = next((row for row in ordinary if row.checkpoint == checkpoint), None)
        found.append(Measured(checkpoint, change, texts, said))
    return list(warnings(found[0], found[1:]))
