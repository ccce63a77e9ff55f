"""Where the time of a run went, and how its losses fell: as its records have it, thinned to what a chart can show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from selfevo_jax.report.summary import Summary
from selfevo_jax.run.files import read_json, read_rows
from selfevo_jax.run.names import COMMITTED, LOSSES, META, name_of
from selfevo_jax.run.run_dir import RunDir

_POINTS = 120
"""Of a loss curve."""
_SUMMED = (
    *("seconds", "extend_seconds", "decode_seconds", "host_seconds", "compile_seconds"),
    *("prefilled", "decoded", "chains", "requests", "steps", "busy"),
)


def phases(run: RunDir, summary: Summary) -> list[dict[str, Any]]:
    """Sampling phase by phase, what several processes have done of one added up; then each fine-tuning."""
    found: dict[str, dict[str, Any]] = {}
    for row in read_rows(run.costs_file) if run.costs_file.exists() else []:
        phase = found.setdefault(row["phase"], {"phase": row["phase"], "slot_steps": 0, "floor": 0.0})
        for name in _SUMMED:
            phase[name] = phase.get(name, 0) + row.get(name, 0)
        phase["slot_steps"] += row.get("slots", 0) * row.get("steps", 0)
        phase["floor"] += (row.get("floor") or {}).get("floor_seconds", 0.0) * row.get("steps", 0)
    return [*found.values(), *_trained(run, summary)]


def _trained(run: RunDir, summary: Summary) -> Iterable[dict[str, Any]]:
    committed = run.meta(COMMITTED)
    told = [(META, read_json(committed))] if committed.exists() else []
    told += [(f"round {record['round']}", record) for record in summary.rounds]
    for shown, record in told:
        training = record.get("training") or {}
        if training.get("seconds") is not None:
            yield {"phase": f"fine-tuning, {shown}", "trained": True, **training}


def losses(run: RunDir, rounds: int) -> list[dict[str, Any]]:
    """Of each checkpoint that was trained and says so: steps and losses, each point the mean of some steps."""
    found = []
    for number in range(rounds + 1):
        file = run.checkpoint(name_of(number)) / LOSSES
        if rows := (read_rows(file) if file.exists() else []):
            each = -(-len(rows) // _POINTS)
            parts = [rows[at : at + each] for at in range(0, len(rows), each)]
            shown = META if number == 0 else f"round {number}"
            steps = [part[-1]["step"] for part in parts]
            found.append({"checkpoint": shown, "each": each, "steps": steps, "losses": [_mean(part) for part in parts]})
    return found


def _mean(rows: list[dict[str, Any]]) -> float | None:
    values = [row["loss"] for row in rows if row["loss"] is not None and math.isfinite(row["loss"])]
    return round(math.fsum(values) / len(values), 6) if values else None
