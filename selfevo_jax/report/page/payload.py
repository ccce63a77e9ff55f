"""What a page shows, as plain JSON values: the summary of each run as `selfevo report --json` gives it, the comparison
of several, what beside them is in their records, and some of their chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from pydantic_core import PydanticUndefined

from selfevo_jax import __version__
from selfevo_jax.config import Config
from selfevo_jax.config.forms import fields
from selfevo_jax.evaluate import paired
from selfevo_jax.report.comparison import compare
from selfevo_jax.report.entries import KINDS, VERDICTS, answers_of
from selfevo_jax.report.page.costs import losses, phases
from selfevo_jax.report.page.embedded import Group, Limits, chosen_rows, of_round, of_set
from selfevo_jax.report.summary import Summary, checkpoints, summarize
from selfevo_jax.report.verdicts import sentences
from selfevo_jax.run.files import read_json, understood
from selfevo_jax.run.identity import flat
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.run.session import FAILED, last_session
from selfevo_jax.run.warned import warned
from selfevo_jax.section import Section


def payload(
    runs: Sequence[RunDir], limits: Limits | None = None, sets: Sequence[str] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures and chains of runs, finished or not, by what they have finished.

    Args: `sets`: of several runs, the evaluation sets to compare; default: all.

    Raises ConfigError where there is no run, or where the runs cannot be compared; SelfevoError for what no run has
    written.
    """
    summaries = [summarize(run) for run in runs]
    names = names_of([str(run.root) for run in runs])
    told = [_run(run, summary, name) for run, summary, name in zip(runs, summaries, names, strict=True)]
    differences = _differences(runs, summaries, sets) if len(runs) > 1 else []
    groups = _groups(runs, summaries, differences, limits or Limits())
    figures = {
        "version": __version__,
        "runs": told,
        "comparison": compare(runs, sets=sets).to_dict() if len(runs) > 1 else None,
        "differences": [{key: value for key, value in of.items() if key != "ids"} for of in differences],
        "groups": [group.told() for group in groups],
        "kinds": KINDS,
        "verdicts": VERDICTS,
    }
    return figures, [entry for group in groups for entry in group.entries]


def names_of(paths: Sequence[str]) -> list[str]:
    """The last parts of paths, as many as tell them apart: `self/seed-1` and `plain/seed-1`."""
    parts = [PurePosixPath(path.replace("\\", "/")).parts for path in paths]
    for size in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(of[-size:]) for of in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _run(run: RunDir, summary: Summary, name: str) -> dict[str, Any]:
    config = run.read_config()
    with understood(run.root):
        return {
            "name": name,
            "seed": config.seed,
            "sentences": sentences(summary),
            "said": [*_error(run, summary), *warned(run)],
            "summary": summary.to_dict(),
            "phases": phases(run, summary),
            "losses": losses(run, len(summary.rounds)),
            "config": _config(config),
        }


def _error(run: RunDir, summary: Summary) -> list[str]:
    """Why the last process ended, where that was an error, and the run has not come to its end since."""
    session = None if summary.complete else last_session(run)
    return [f"The last process ended with an error: {session.said}"] if session and session.end == FAILED else []


def _config(config: Config) -> list[dict[str, Any]]:
    """Every key with its value; with its default where it has one and the value is another."""
    defaults: dict[str, Any] = {}
    for name, field in fields():
        value = field.get_default(call_default_factory=True)
        if value is not PydanticUndefined and not isinstance(value, Section):
            defaults[name] = list(value) if isinstance(value, tuple) else value
    found = []
    for key, value in flat(config.model_dump(mode="json")):
        row = {"key": key, "value": value}
        if key not in defaults:
            row["own"] = True
        elif defaults[key] != value:
            row |= {"own": True, "default": defaults[key]}
        found.append(row)
    return found


def _differences(runs: Sequence[RunDir], summaries: Sequence[Summary], sets: Sequence[str]) -> list[dict[str, Any]]:
    """Of each run against the first, set by set at the last checkpoint that both have: rows that one alone has right,
    by direct answers."""
    found = []
    for index in range(1, len(runs)):
        known = [name for name in checkpoints(summaries[0]) if name in checkpoints(summaries[index])]
        for shown, name in reversed(known):
            before, after = (_right(run, name) for run in (runs[0], runs[index]))
            common = [of for of in before if of in after and (not sets or of in sets)]
            for set_name in common:
                result = paired(before[set_name], after[set_name])
                if result is not None:
                    ids = [id for id, hit in before[set_name].items() if after[set_name].get(id) not in (hit, None)]
                    own = {"run": index, "set": set_name, "checkpoint": shown, "ids": ids}
                    found.append(own | asdict(result) | {"better": result.better, "worse": result.worse})
            if common:
                break
    return found


def _right(run: RunDir, name: str) -> dict[str, Mapping[str, bool | None]]:
    """Set -> which direct answers are right."""
    file = run.evaluation(name)
    with understood(file):
        return {key: of["right"]["direct"] for key, of in read_json(file).items()} if file.exists() else {}


def _groups(
    runs: Sequence[RunDir], summaries: Sequence[Summary], differences: Sequence[Mapping[str, Any]], limits: Limits
) -> list[Group]:
    sets = {index: _texts(run, summary) for index, (run, summary) in enumerate(zip(runs, summaries, strict=True))}
    count = sum(len(summary.rounds) for summary in summaries) + sum(map(len, sets.values()))
    each = None if limits.characters is None else limits.characters // max(1, count)
    favoured: dict[str, set[str]] = {}
    for of in differences:
        favoured.setdefault(of["set"], set()).update(of["ids"])
    rows: dict[str, list[str]] = {}
    groups = []
    for index, (run, summary) in enumerate(zip(runs, summaries, strict=True)):
        # a round that was ended by its filter has chains all the same
        for number in range(1, len(summary.rounds) + 2):
            groups.append(of_round(run, number, index, limits, each))
        for set_name in sets[index]:
            names = checkpoints(summary)
            if set_name not in rows:  # the same rows of every run
                shown, name = next(of for of in reversed(names) if run.texts(of[1], set_name).exists())
                entries = answers_of(run, name, shown, set_name)
                rows[set_name] = chosen_rows(entries, favoured.get(set_name, ()), limits.rows)
            groups.append(of_set(run, set_name, names, index, rows[set_name], each))
    return [group for group in groups if group.of]


def _texts(run: RunDir, summary: Summary) -> list[str]:
    """The sets whose answers are kept."""
    sets = dict.fromkeys(row.set for row in summary.rows if row.direct is not None)
    return [of for of in sets if any(run.texts(name, of).exists() for _, name in checkpoints(summary))]
