"""One run of a comparison: what it has measured, row by row, and the config that it was measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfevo_jax.report.open_comparison import Judged, judged
from selfevo_jax.report.summary import Summary, summarize
from selfevo_jax.report.texts import ORDINARY, Texts, text_scores
from selfevo_jax.run.files import read_json, read_rows, understood
from selfevo_jax.run.identity import flat
from selfevo_jax.run.names import PRINTS, name_of
from selfevo_jax.run.run_dir import RunDir

DATA = {"data_first": "first", "data_candidates": "candidates", "data_kept": "kept"}
"""Shares of right rows in the data of the rounds, as `report.Row` names them."""
CONTENT = "content of "
"""Before the key of a fingerprint among those of the config."""
_GREEDY = ("direct", "refined")

Right = dict[str, bool | None]


@dataclass(frozen=True)
class Member:
    """One run of a row."""

    run_dir: str
    seed: int
    complete: bool
    ended: str | None
    """Why it ended early, where that is known."""
    config: dict[str, Any] = field(repr=False)
    """Dotted keys, and the fingerprints of the data."""
    right: dict[tuple[str, str, str], Right] = field(repr=False)
    """(set, mode, checkpoint) -> which rows are right."""
    data: dict[tuple[str, str], tuple[float, int]] = field(repr=False)
    """(kind, checkpoint) -> the share of right rows in the data of its round, and how many rows there are."""
    labels: str | None = None
    """What reads gold answers inside its rounds."""
    judged: Judged = field(default_factory=dict, repr=False)
    """What a judge says of open-ended prompts."""
    texts: Judged = field(default_factory=dict, repr=False)
    """Whether its texts are still good."""
    sets: tuple[str, ...] = ()
    """The evaluation sets and open-ended sets of its config."""
    ordinary_tokens: dict[str, int] = field(default_factory=dict, repr=False)
    """Checkpoint -> how many tokens of ordinary answers its log-likelihood is of."""


def scorers_of(run: RunDir, sets: Sequence[str]) -> list[str]:
    """The names of those that graded the base's answers."""
    file = run.evaluation("base")
    with understood(run.root):
        found = read_json(file) if file.exists() else {}
        return [name for set_name, of in found.items() if not sets or set_name in sets for name in of["scorers"]]


def right_by(run: RunDir, name: str, set_name: str, figures: Mapping[str, Any], scorer: str | None) -> dict[str, Right]:
    """Mode -> which rows are right, by a scorer. Of one that is not the primary one the grades stand beside the texts,
    of greedy answers alone."""
    right: dict[str, Right] = figures["right"]
    if scorer is None or scorer == figures["scorers"][0]:
        return right
    if scorer not in figures["scorers"]:
        return {}
    if not (texts := run.texts(name, set_name)).exists():
        return {}
    greedy, rows = [mode for mode in right if mode in _GREEDY], read_rows(texts)
    graded = {mode: {row["id"]: row["grades"].get(mode) for row in rows} for mode in greedy}
    return {mode: {id: _is_right(of, scorer) for id, of in found.items()} for mode, found in graded.items()}


def _is_right(grades: Mapping[str, Any] | None, scorer: str) -> bool | None:
    value = None if grades is None else grades[scorer]["value"]
    return None if value is None else bool(value >= 1.0)


def member_of(run: RunDir, ended: str | None, sets: Sequence[str], scorer: str | None) -> Member:
    config, summary = run.read_config(), summarize(run)
    prints = run.root / PRINTS
    with understood(run.root):
        told = read_json(prints) if prints.exists() else {}
        facts = dict(flat(config.model_dump(mode="json"))) | {
            f"{CONTENT}{key}": value for key, value in told.items() if key != "config"
        }
        right: dict[tuple[str, str, str], Right] = {}
        names = {shown: _stored(shown) for shown in dict.fromkeys(row.checkpoint for row in summary.rows)}
        for shown, name in names.items():
            file = run.evaluation(name)
            for set_name, figures in (read_json(file) if file.exists() else {}).items():
                if not sets or set_name in sets:
                    by_mode = right_by(run, name, set_name, figures, scorer)
                    right |= {(set_name, mode, shown): rows for mode, rows in by_mode.items()}
        names |= {row.checkpoint: _stored(row.checkpoint) for row in summary.ordinary}
        texts = text_scores(run, Texts(run, config), names, sets)
        read = [shown for set_name, _, shown in texts if set_name == ORDINARY]
        tokens = {shown: int(read_json(run.ordinary(names[shown]))["tokens"]) for shown in read}
    stopped = None if summary.stopped is None else f"worse after round {summary.stopped} (rounds.stop_when_worse)"
    return Member(
        str(run.root),
        config.seed,
        summary.complete,
        ended or stopped,
        facts,
        right,
        _data(summary),
        summary.labels,
        judged(run, {row.checkpoint: _stored(row.checkpoint) for row in summary.open_ended}, sets),
        texts,
        (*config.data.evaluation, *config.data.open_ended),
        tokens,
    )


def _stored(shown: str) -> str:
    """The name of a checkpoint's evaluation in the run directory."""
    return name_of(int(shown.removeprefix("round "))) if shown.startswith("round ") else shown


def _data(summary: Summary) -> dict[tuple[str, str], tuple[float, int]]:
    found = {}
    for row in summary.rows:
        for name, kind in DATA.items():
            share = getattr(row, name)
            if share is not None and share["share"] is not None:
                found[kind, row.checkpoint] = share["share"], share["n"]
    return found
