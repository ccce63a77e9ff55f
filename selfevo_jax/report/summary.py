"""A run as data: one row a checkpoint, read from the run directory alone (safe on a live run)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from selfevo_jax.rounds.run_dir import RunDir, read_json


@dataclass(frozen=True)
class Row:
    """One checkpoint on one evaluation set; shares are 0 to 1, None where something was not measured."""

    checkpoint: str
    set: str
    direct: dict[str, Any]
    refined: dict[str, Any] | None
    consistency: dict[str, Any] | None
    both: dict[str, Any] | None
    right_to_wrong: int
    wrong_to_right: int
    verdict: dict[str, Any] | None
    kept: int | None = None
    sampled: int | None = None
    data_first: dict[str, Any] | None = None
    """Accuracy of the round's first responses."""
    data_candidates: dict[str, Any] | None = None
    """Accuracy of the chosen candidates, before the filter."""
    data_kept: dict[str, Any] | None = None
    """Accuracy of the rows that passed."""
    controls: dict[str, Any] | None = None


@dataclass(frozen=True)
class Summary:
    """The rows of a run, in the order of its checkpoints, and the counts of each round."""

    run_dir: str
    complete: bool
    rows: list[Row]
    rounds: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarize(run: RunDir) -> Summary:
    """Reads what is finished. Raises ConfigError when no run lies there."""
    config = run.read_config()
    names = ["base", "meta", *(f"{number:04d}" for number in range(1, config.rounds.number + 1))]
    rows: list[Row] = []
    rounds: list[dict[str, Any]] = []
    finished = run.meta("COMMITTED").exists()
    for name in names:
        metrics: dict[str, Any] = {}
        if name.isdigit():
            file = run.round(int(name), "metrics.json")
            if not run.round(int(name), "COMMITTED").exists():
                finished = False
                continue
            metrics = read_json(file)
            rounds.append(metrics)
        if not run.evaluation(name).exists():
            finished = finished and not (config.data.evaluation or config.data.stories)
            continue
        data = metrics.get("data_accuracy") or {}
        for set_name, found in read_json(run.evaluation(name)).items():
            rows.append(
                Row(
                    checkpoint=f"round {int(name)}" if name.isdigit() else name,
                    set=set_name,
                    **{
                        key: found[key]
                        for key in (
                            "direct",
                            "refined",
                            "consistency",
                            "both",
                            "right_to_wrong",
                            "wrong_to_right",
                            "verdict",
                        )
                    },
                    kept=metrics["counts"]["kept"] if metrics else None,
                    sampled=metrics["counts"]["sampled"] if metrics else None,
                    data_first=data.get("first"),
                    data_candidates=data.get("candidates"),
                    data_kept=data.get("kept"),
                    controls=metrics.get("controls"),
                )
            )
    return Summary(str(run.root), finished, rows, rounds)
