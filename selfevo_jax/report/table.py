"""The tables of a run for a terminal, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from selfevo_jax.data import selected
from selfevo_jax.report.cells import p_value, percent, plain_table
from selfevo_jax.report.open_ended import open_tables
from selfevo_jax.report.summary import Row, Summary
from selfevo_jax.report.texts import ordinary_table, text_table

MODES = ("direct", "refined", "consistency", "both")
_FAULTS = {"failed": "failed", "not_scored": "not scored", "no_answer": "no answer", "clipped": "clipped"}


def beside(accuracy: Mapping[str, Any]) -> list[str]:
    """What was not run, not scored, not answered or cut, where there is any; and the mean of grades that are not all
    right or wrong. Runs of before have not all of these."""
    found = [f"{word} {accuracy[key]}" for key, word in _FAULTS.items() if accuracy.get(key)]
    mean = accuracy.get("mean")
    if mean is not None and mean != accuracy["share"]:
        found.append(f"mean {100 * mean:.1f} ± {100 * accuracy['mean_error']:.1f}")
    return found


def demands(accuracy: Mapping[str, Any] | None, between: str = " ") -> list[str]:
    """Demands that are met, and those that could not be scored; nothing where rows have none."""
    if accuracy is None or accuracy.get("demands") is None:
        return []
    lost = accuracy["demands_not_scored"]
    return [percent(accuracy["demands"], between), *([f"not scored {lost}"] if lost else [])]


def _accuracy(value: Mapping[str, Any] | None, between: str) -> str:
    return "\n".join([percent(value, between), *([] if value is None else beside(value))])


def _gain(gain: Mapping[str, Any] | None, between: str) -> str:
    if gain is None:
        return "-"
    return f"{100 * gain['gain']:+.1f}{between}± {100 * gain['stderr']:.1f}\n{p_value(gain['p'])}"


def tables(summary: Summary) -> Iterator[Table]:
    """Accuracy and gain, the quality of feedback and of texts, of each checkpoint on each set; then what is known of
    ordinary answers, what the rounds kept, and what a judge says of open-ended prompts."""
    for name in dict.fromkeys(row.set for row in summary.rows if row.direct is not None):
        rows = [row for row in summary.rows if row.set == name]
        yield _accuracies(name, rows)
        if any(row.further for row in rows):
            yield _further(name, rows)
        if any(demands(row.direct) or any(demands(m.get("direct")) for m in row.further.values()) for row in rows):
            yield _demands(name, rows)
        yield from _by_kind(name, rows)
        if any(row.verdict for row in rows):
            yield _feedback(name, rows)
        if told := [(row.checkpoint, row.texts) for row in rows if row.texts is not None]:
            yield text_table(name, told)
    if summary.ordinary:
        yield ordinary_table(summary.ordinary)
    first = {row.checkpoint: row for row in reversed(summary.rows) if row.counts is not None}
    if first:
        yield _rounds([first[name] for name in reversed(first)])
        if own := [first[name] for name in reversed(first) if first[name].written is not None]:
            yield _written(own)
    yield from open_tables(summary.open_ended)


def _accuracies(name: str, rows: Sequence[Row]) -> Table:
    modes = [mode for mode in MODES if mode in MODES[:2] or any(getattr(row, mode) for row in rows)]
    between = " " if len(modes) == 2 else "\n"
    cells = [
        [row.checkpoint, *(_accuracy(getattr(row, mode), between) for mode in modes), _gain(row.gain, between)]
        for row in rows
    ]
    title = next((f"\n{selected(**row.selection)}" for row in rows if row.selection is not None), "")
    gap = 3 if len(modes) == 2 else 1
    return plain_table(f"{name}: accuracy in %{title}", ["model", *modes, "gain"], cells, gap=gap)


def _further(name: str, rows: Sequence[Row]) -> Table:
    """By the scorers beside the primary one."""
    modes = [mode for mode in MODES if any(mode in found for row in rows for found in row.further.values())]
    between = " " if len(modes) <= 2 else "\n"
    cells = [
        [row.checkpoint, scorer, *(_accuracy(found.get(mode), between) for mode in modes)]
        for row in rows
        for scorer, found in row.further.items()
    ]
    return plain_table(f"{name}: by other scorers in %", ["model", "scorer", *modes], cells)


def _demands(name: str, rows: Sequence[Row]) -> Table:
    """By the scorers whose rows have several: IFEval's accuracy by instruction, beside that by prompt."""
    modes = [mode for mode in MODES if any(getattr(row, mode) for row in rows)]
    between = " " if len(modes) <= 2 else "\n"
    cells = []
    for row in rows:
        primary = {mode: getattr(row, mode) for mode in modes}
        for scorer, found in {(row.scorers or ("-",))[0]: primary, **row.further}.items():
            told = ["\n".join(demands(found.get(mode), between)) for mode in modes]
            if any(told):
                cells.append([row.checkpoint, scorer, *(cell or "-" for cell in told)])
    return plain_table(f"{name}: demands met in %", ["model", "scorer", *modes], cells)


def _by_kind(name: str, rows: Sequence[Row]) -> Iterator[Table]:
    """Of each scorer with kinds of demands, direct answers of the first checkpoint and of the last one."""
    shown = [*rows[:1], *rows[1:][-1:]]
    for scorer in dict.fromkeys(["", *(scorer for row in shown for scorer in row.further)]):
        found = [(row.further.get(scorer, {}).get("direct") if scorer else row.direct) or {} for row in shown]
        shares = [of.get("by_kind", {}) for of in found]
        if kinds := sorted({kind for of in shares for kind in of}):
            cells = [[kind, *(percent(of.get(kind), "\n") for of in shares)] for kind in kinds]
            title = f"{name}: demands met, by kind in %" + (f", by {scorer}" if scorer else "")
            yield plain_table(title, ["direct", *(row.checkpoint for row in shown)], cells, gap=1)


def _feedback(name: str, rows: Sequence[Row]) -> Table:
    cells = [
        [
            row.checkpoint,
            str(row.wrong_to_right),
            str(row.right_to_wrong),
            percent(row.verdict["precision"]),
            percent(row.verdict["recall"]),
            str(row.verdict["unparseable"]),
        ]
        for row in rows
        if row.verdict
    ]
    headers = ["model", "mended", "spoilt", "precision", "recall", "unparseable"]
    return plain_table(f"{name}: feedback on responses in %", headers, cells)


def _rounds(rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        counts = row.counts or {}
        lost = [f"{what} {counts[what]}" for what in ("unparseable", "clipped", "failed") if counts[what]]
        if counts.get("unread_texts", 0) > counts["unparseable"]:  # of several texts on one answer
            lost.append(f"unread texts {counts['unread_texts']}")
        others = {"unscored": "without a score", "outside": "outside rounds.pass_rate"}
        lost += [f"{told} {counts[what]}" for what, told in others.items() if counts.get(what)]
        data = [percent(share, "\n") for share in (row.data_first, row.data_candidates, row.data_kept)]
        controls = "-" if row.controls is None else f"{row.controls['passed']}/{row.controls['rows']}"
        if unread := (row.controls or {}).get("unread"):
            controls += f"\nunread {unread}"
        cells.append([row.checkpoint, "\n".join([f"{row.kept}/{row.sampled}", *lost]), *data, controls])
    headers = ["rounds", "kept", "first", "candidates", "kept right", "controls"]
    return plain_table("rows of the rounds, and how many of them are right in %", headers, cells)


def _written(rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        own = row.written or {}
        lost = [f"{n} {reason}" for reason, n in own["refused"].items() if n]
        texts = [str(own["texts"]), *(f"{what} {own[what]}" for what in ("empty", "failed") if own[what])]
        kept = f"{own['prompts']}/{own['wanted']}"
        cells.append([row.checkpoint, kept, str(own["given"]), "\n".join(texts), "\n".join(lost) or "-"])
    headers = ["rounds", "written", "given", "texts", "refused"]
    return plain_table("prompts that the model wrote itself", headers, cells)
