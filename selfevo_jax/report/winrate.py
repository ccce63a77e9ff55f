"""The figures of a win rate as lines, readable at 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from selfevo_jax.evaluate import Estimate, MeanRating, WinRate
from selfevo_jax.report.cells import WIDTH, p_value

_LABEL = 30
LEGEND = (
    "±: standard error. [low, high]: the 95 % interval (Wilson). A tie is half a win; where the two orders disagree "
    "the pair is a tie. p: how likely so uneven a split of wins and losses is between equals (sign test). At equal "
    "lengths: by a logistic regression on the difference of lengths, after AlpacaEval (without its difficulty of "
    "prompts). Shown first: of the verdicts for one side, those for the answer that was shown first; 50 % is no bias."
    " Not judged: pairs of which an order could not be read or asked; they are in no rate."
)


def _percent(found: Estimate) -> str:
    if found.value is None:
        return "-"
    error = "" if found.stderr is None else f" ± {100 * found.stderr:.1f}"
    return f"{100 * found.value:.1f}{error} %"


def _interval(found: tuple[float, float] | None) -> str:
    return "" if found is None else " [{:.1f}, {:.1f}]".format(*(100 * x for x in found))


def _length(found: Estimate) -> str:
    if found.value is None:
        return "-"
    return f"{found.value:.0f}" + ("" if found.stderr is None else f" ± {found.stderr:.0f}") + " characters"


def _rating(found: MeanRating) -> str:
    error = "" if found.stderr is None else f" ± {found.stderr:.2f}"
    value = "-" if found.value is None else f"{found.value:.2f}{error}"
    return f"{value} of 10 ({found.n} read, {found.unread} not read)"


def winrate_lines(found: WinRate, ratings: Sequence[MeanRating] = ()) -> list[str]:
    """Every figure with its error, at most WIDTH columns wide. `ratings`: of the model, and of the other side."""
    judged = found.pairs - found.unjudged
    agree, first = found.consistency, _interval(found.first_interval)
    equal = f", {p_value(found.p)}" if judged else ""
    rows = [
        ("won, tied, lost", f"{found.wins}, {found.ties}, {found.losses} of {judged} judged pairs"),
        ("win rate, ties as halves", _percent(found.rate) + _interval(found.interval) + equal),
        ("win rate at equal lengths", _percent(found.length_controlled)),
        ("shown first is preferred", f"{_percent(found.first_slot)}{first} of {found.first_slot.n} verdicts"),
        ("both orders agree", f"{agree} of {agree.n} judged pairs" if agree.n else "-"),
        ("mean length, model", _length(found.lengths[0])),
        ("mean length, other side", _length(found.lengths[1])),
        *((f"mean rating, {side}", _rating(r)) for side, r in zip(("model", "other side"), ratings, strict=False)),
        ("not judged", f"{found.unjudged} of {found.pairs} pairs"),
    ]
    rows += [(f"  texts: {_REASONS[reason]}", str(count)) for reason, count in found.unread.items()]
    lines = [f"  {label:<{_LABEL}}{value}" for label, value in rows]
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent=" " * (_LABEL + 2))]


_REASONS = {
    "none": "no verdict in them",
    "several": "different verdicts",
    "unclear": "not said for certain",
    "clipped": "cut at a limit",
    "not asked": "could not be asked",
}
