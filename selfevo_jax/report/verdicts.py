"""What a run has come to, in a few honest sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfevo_jax.progress import counted
from selfevo_jax.report.cells import p_value
from selfevo_jax.report.open_ended import verdict_on_open
from selfevo_jax.report.summary import Summary
from selfevo_jax.run.names import BASE, META


def sentences(summary: Summary) -> list[str]:
    """What a run has come to: of its gold answers, where there are any, and one sentence a set of open-ended
    prompts."""
    told = [] if summary.open_ended and not any(row.direct for row in summary.rows) else [verdict_on_run(summary)]
    return [*told, *verdict_on_open(summary.open_ended)]


def verdict_on_run(summary: Summary) -> str:
    """One honest sentence: better, worse, or within the noise, by direct accuracy on the rows of the first set; and a
    second one against the base where that is another answer, or a fall."""
    first_set = summary.rows[0].set if summary.rows else None
    measured = [row for row in summary.rows if row.set == first_set]
    of_round = next((row for row in reversed(measured) if row.gain is not None), None)
    if of_round is None or of_round.gain is None:
        told = ["No round has been measured yet."]
    else:
        told = [_change(META, of_round.checkpoint, of_round.gain)]
    last = of_round or (measured[-1] if measured else None)
    if last is not None and last.against_base is not None and _is_news(last.gain, last.against_base):
        told.append(_change(BASE, last.checkpoint, last.against_base))
    if summary.labels is not None:
        told.append(f"The rounds read labels, by {summary.labels}: a baseline, no self-improvement.")
    return " ".join(told)


def _is_news(gain: Mapping[str, Any] | None, against_base: Mapping[str, Any]) -> bool:
    """Whether the change against the base says what the gain over M_meta does not. A fall always does, but where M_meta
    answers as the base does."""
    if gain is None:
        return bool(against_base["better"] or against_base["worse"])
    return bool(gain != against_base and (against_base["worse"] or _way(gain) != _way(against_base)))


def _way(change: Mapping[str, Any]) -> str:
    return "better" if change["better"] else "worse" if change["worse"] else ""


def _change(start: str, end: str, change: Mapping[str, Any]) -> str:
    points = f"{100 * change['gain']:+.1f} points"
    rows = counted(change["n"], "row")
    error = f"standard error {100 * change['stderr']:.1f}, McNemar's exact {p_value(change['p'])}, {rows}"
    if not (what := _way(change)):
        return f"Direct accuracy from {start} to {end}: no measurable change ({points}, {error})."
    return f"Direct accuracy from {start} to {end}: {what} by {points} ({error})."
