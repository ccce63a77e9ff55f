"""A run's figures on open-ended prompts: what each checkpoint's record says, as tables and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from selfevo_jax.report.cells import estimate, p_value, percent, plain_table
from selfevo_jax.run.files import read_json, read_rows
from selfevo_jax.run.names import name_of
from selfevo_jax.run.run_dir import RunDir

LEGEND = (
    (
        r"^(win rate|mark)$",
        "±: standard error. p: how likely so uneven a split of wins and losses, or of higher and lower marks, is "
        "between equals (sign test).",
    ),
    (
        r"^win rate$",
        "win rate: of the judged pairs, ties as halves; a pair is asked about in both orders, and one of which they "
        "disagree is a tie; w/t/l: won, tied, lost. equal len.: the win rate at equal lengths, by a logistic "
        "regression on the difference of lengths, after AlpacaEval. first: of the verdicts for one side, those for "
        "the answer shown first (50 % is no bias). agree: pairs of which both orders say the same. not judged: pairs "
        "of which an order could not be read or asked, which are in no rate.",
    ),
    (
        r"^mark$",
        "mark: mean of 1 to 10; difference: to the other side's marks, prompt by prompt. not read: answers without a "
        "mark that could be read.",
    ),
)
"""What shows in the tables, as a pattern, and what it means."""
_SHOWN = 600
"""Letters of a text in a transcript."""


@dataclass(frozen=True)
class OpenRow:
    """One checkpoint on one set of open-ended prompts."""

    checkpoint: str
    set: str
    figures: dict[str, Any]
    """An `OpenFigures` as plain values, without what is known prompt by prompt."""


_BY_PROMPT = ("outcomes", "ratings")


def open_record(run: RunDir, name: str) -> dict[str, Any]:
    """The figures of a checkpoint by the names of the sets; empty where there are none yet."""
    file = run.open_ended(name)
    found: dict[str, Any] = read_json(file) if file.exists() else {}
    return found


def open_rows(run: RunDir, name: str, shown: str) -> list[OpenRow]:
    return [
        OpenRow(shown, set_name, {key: value for key, value in figures.items() if key not in _BY_PROMPT})
        for set_name, figures in open_record(run, name).items()
    ]


def open_tables(rows: Sequence[OpenRow]) -> Iterator[Table]:
    """Win rates, then marks and lengths, of each set."""
    for name in dict.fromkeys(row.set for row in rows):
        of_set = [row for row in rows if row.set == name]
        first = of_set[0].figures
        if any(row.figures["win_rate"] is not None for row in of_set):
            title = f"{name}: win rate against {first['against']} in %, judge: {first['judge']}"
            yield plain_table(title, _RATES, [_rates(row) for row in of_set if row.figures["win_rate"]], gap=1)
        yield plain_table(f"{name}: marks from 1 to 10, judge: {first['judge']}", _MARKS, list(map(_marks, of_set)))


_RATES = ["model", "win rate", "equal len.", "w/t/l", "first", "agree", "not judged"]
_MARKS = ["model", "mark", "difference", "not read", "characters", "beside"]


def _rates(row: OpenRow) -> list[str]:
    found = row.figures["win_rate"]
    interval = found["interval"]
    between = "" if interval is None else f"\n[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    unread = [f"{reason} {count}" for reason, count in found["unread"].items()]
    return [
        row.checkpoint,
        f"{estimate(found['rate'], 100)}{between}",
        estimate(found["length_controlled"], 100),
        f"{found['wins']}/{found['ties']}/{found['losses']}\n{p_value(found['p'])}",
        estimate(found["first_slot"], 100),
        percent(found["consistency"], "\n"),
        "\n".join([f"{found['unjudged']}/{found['pairs']}", *unread]),
    ]


def _marks(row: OpenRow) -> list[str]:
    found = row.figures
    mark, gain = found["rating"], found["rating_gain"]
    told = "-"
    if gain is not None:
        error = "" if gain["stderr"] is None else f" ± {gain['stderr']:.2f}"
        told = f"{gain['gain']:+.2f}{error}\n{p_value(gain['p'])}"
    lost = [f"{word} {found[word]}" for word in ("failed", "clipped") if found[word]]
    unread = "-" if mark is None else f"{mark['unread']}/{mark['unread'] + mark['n']}"
    return [
        row.checkpoint,
        estimate(mark, digits=2),
        told,
        unread,
        estimate(found["length"], digits=0),
        "\n".join(lost),
    ]


def verdict_on_open(rows: Sequence[OpenRow]) -> Iterator[str]:
    """A sentence a set about its last checkpoint: better, worse, or neither within the noise."""
    for name in dict.fromkeys(row.set for row in rows):
        row = next((row for row in reversed(rows) if row.set == name and row.figures["win_rate"] is not None), None)
        if row is None:
            continue
        found, rate = row.figures, row.figures["win_rate"]
        who = f"{name}: {row.checkpoint} against {found['against']}, judge {found['judge']}"
        if rate["rate"]["value"] is None:
            yield f"{who}: no pair could be judged."
            continue
        what = "preferred" if found["better"] else "not preferred, the other side is" if found["worse"] else ""
        told = f"win rate {estimate(rate['rate'], 100)} %, {p_value(rate['p'])}, {rate['rate']['n']} pairs"
        yield f"{who}: {what or 'no measurable difference'} ({told})."


def open_transcripts(run: RunDir, shown: str, set_name: str) -> Iterator[str]:
    """Of a checkpoint, as it is shown: a prompt that it won, one that it lost, and where there is neither the first
    one, with all that was said of it."""
    path = run.judged(name_of(int(shown.removeprefix("round "))) if shown.startswith("round ") else shown, set_name)
    rows = read_rows(path) if path.exists() else []
    chosen = {row["outcome"]: row for row in reversed(rows) if row.get("outcome") in ("win", "loss")}
    for row in [chosen[key] for key in ("win", "loss") if key in chosen] or rows[:1]:
        yield "\n".join(_told(row, f"{set_name}, {shown}"))


def _told(row: Mapping[str, Any], where: str) -> Iterator[str]:
    yield f"[{where}: {row.get('outcome') or 'not judged'}] {_short(row['prompt'])}"
    for side, words in (("model", "answer"), ("against", "other side")):
        if side in row:
            mark = row.get("ratings", {}).get(side)
            told = (
                ""
                if mark is None
                else f" (mark {'not read' if mark['rating'] is None else format(mark['rating'], 'g')})"
            )
            yield f"  {words}{told}: {_short(row[side])}"
    for order, judgement in row.get("judgements", {}).items():
        yield f"  judge, {order.replace('_', ' ')}: {_short(judgement['text'] or judgement['error'] or '')}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
