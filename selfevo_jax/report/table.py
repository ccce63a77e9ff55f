"""The table of a run for a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from selfevo_jax.report.summary import Summary


def percent(value: dict[str, Any] | None) -> str:
    """`61.7 ± 2.1`, in percent; `-` where nothing was measured."""
    if value is None or value["share"] is None:
        return "-"
    return f"{100 * value['share']:.1f} ± {100 * value['stderr']:.1f}"


def table(summary: Summary) -> Table:
    """Accuracy, flips, verdict quality and data accuracy of each checkpoint, in percent with standard errors."""
    rows = summary.rows
    optional = [mode for mode in ("consistency", "both") if any(getattr(row, mode) for row in rows)]
    several = len({row.set for row in rows}) > 1
    # as text, not markup: names of folders and sets are not ours
    out = Table(title=Text(f"{summary.run_dir}: accuracy in %, ± one standard error"), title_justify="left")
    headers = ["model", *(["set"] if several else []), "direct", "refined", *optional]
    headers += ["wrong→right", "right→wrong", "verdict precision", "kept", "first", "candidates", "kept right"]
    for header in headers:
        out.add_column(header, justify="left" if header in ("model", "set") else "right", no_wrap=True)
    for row in rows:
        cells = [row.checkpoint, *([row.set] if several else []), percent(row.direct), percent(row.refined)]
        cells += [percent(getattr(row, mode)) for mode in optional]
        judged = row.refined is not None
        cells += [str(row.wrong_to_right) if judged else "-", str(row.right_to_wrong) if judged else "-"]
        cells.append(percent(row.verdict["precision"]) if row.verdict else "-")
        cells.append("-" if row.kept is None else f"{row.kept}/{row.sampled}")
        cells += [percent(row.data_first), percent(row.data_candidates), percent(row.data_kept)]
        out.add_row(*map(Text, cells))
    return out


LEGEND = (
    "kept: rows of the round that passed the model's own filter. first, candidates, kept right: how many of its first "
    "responses, of its chosen answers before the filter, and of the kept ones are right (gold is read after the round)."
)


def verdict_on_run(summary: Summary) -> str:
    """One honest sentence: better, worse, or within the noise, by the first set's direct accuracy."""
    first_set = summary.rows[0].set if summary.rows else None
    rows = [row for row in summary.rows if row.set == first_set and row.direct is not None]
    start = next((row for row in rows if row.checkpoint == "meta"), None)
    last = rows[-1] if rows else None
    if start is None or last is None or last is start or not start.direct or not last.direct:
        return "No round has been measured yet."
    gain = 100 * (last.direct["share"] - start.direct["share"])
    noise = 200 * (last.direct["stderr"] ** 2 + start.direct["stderr"] ** 2) ** 0.5
    if abs(gain) <= noise:
        what = f"no measurable change ({gain:+.1f} points, within twice the standard error of {noise / 2:.1f})"
    else:
        what = f"{'better' if gain > 0 else 'worse'} by {gain:+.1f} points (standard error {noise / 2:.1f})"
    return f"Direct accuracy from meta to {last.checkpoint}: {what}."
