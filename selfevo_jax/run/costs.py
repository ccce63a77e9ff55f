"""What the phases of a run have cost, as its directory says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from selfevo_jax.run.files import read_json, read_rows, understood
from selfevo_jax.run.names import COMMITTED, name_of
from selfevo_jax.run.run_dir import RunDir

TRAINING = "training"
_KINDS = {
    r"evaluating (?P<of>\S+) on ": "evaluation",
    r"responses of the (?P<of>base) for D_meta": "meta_data",
    r"round (?P<round>\d+): respond": "rollouts",
    r"round (?P<round>\d+): write prompts": "prompts",
    r"round (?P<round>\d+): judged by": "judged",
    r"round (?P<round>\d+): judge planted answers": "controls",
}
"""What the title of a phase begins with -> its kind; others are `other`."""


@dataclass(frozen=True)
class Cost:
    """Of one phase; of questions to a server as the server counts them."""

    kind: str
    """`evaluation`, `meta_data`, `rollouts`, `prompts`, `judged`, `controls`, `training` or `other`."""
    of: str | None
    """The checkpoint that it measures or makes (`base`, `meta`, `0001`, ...), where it belongs to one."""
    seconds: float
    """Wall time, with what was compiled meanwhile."""
    tokens: int
    """Drawn; of a training those that were read, padding not counted."""
    prompt_tokens: int = 0
    """Computed of prompts."""
    floor_share: float | None = None
    """The least time that the decode steps could have taken, by what this machine was measured to do, over what they
    took."""


def costs(run: RunDir) -> list[Cost]:
    """Every sampling, here or by a server, in the order in which they ended, then every finished training.

    Raises ConfigError where no run lies, SelfevoError for what no run has written.
    """
    run.require_run()
    return [*sampling_costs(run), *training_costs(run)]


def sampling_costs(run: RunDir) -> list[Cost]:
    """One for each call of the sampler, or of a server that judges: a phase that was broken off and went on has
    several."""
    with understood(run.costs_file):
        return [_sampling(row) for row in (read_rows(run.costs_file) if run.costs_file.exists() else [])]


def training_costs(run: RunDir) -> Iterator[Cost]:
    """Of each finished training, in their order."""
    for number in finished_rounds(run):
        told = training_record(run, number)
        yield Cost(TRAINING, name_of(number), told.get("seconds", 0.0), told.get("tokens", 0))


def finished_rounds(run: RunDir) -> Iterator[int]:
    """0 where M_meta is finished, then the rounds that are."""
    return takewhile(lambda number: end_of(run, number).exists(), count())


def end_of(run: RunDir, round: int) -> Path:
    """The last file of a round, 0 of the making of M_meta."""
    return run.round(round, COMMITTED) if round else run.meta(COMMITTED)


def training_record(run: RunDir, round: int) -> dict[str, Any]:
    """What the record of a finished round says of its training, 0 of M_meta."""
    file = run.round(round, "metrics.json") if round else run.meta(COMMITTED)
    with understood(file):
        found: dict[str, Any] = read_json(file)["training"]
        return found


def _sampling(row: Mapping[str, Any]) -> Cost:
    kind, of = _kind(row["phase"])
    if "questions" in row:  # of a server
        return Cost(kind, of, row["seconds"], row["completion_tokens"], row["prompt_tokens"])
    share = (row.get("floor") or {}).get("share")
    return Cost(kind, of, row["seconds"], row["decoded"], row["prefilled"], share)


def _kind(title: str) -> tuple[str, str | None]:
    for pattern, kind in _KINDS.items():
        if (match := re.match(pattern, title)) is not None:
            found = match.groupdict()
            round = found.get("round")
            return kind, found.get("of") if round is None else name_of(int(round))
    return "other", None
