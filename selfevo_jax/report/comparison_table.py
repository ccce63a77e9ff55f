"""A comparison for people: text that is readable at 80 columns, and Markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from selfevo_jax.evaluate import wilson
from selfevo_jax.report.cells import WIDTH, p_value, plain_table
from selfevo_jax.report.comparison import DATA, GAIN, Comparison, Row
from selfevo_jax.report.figures import Figure
from selfevo_jax.report.members import CONTENT
from selfevo_jax.report.open_comparison import MARK
from selfevo_jax.report.texts import LIKELIHOOD, ORDINARY

_SHOWN = 40
"""Letters of a key's value."""
_NAME = 28
"""Letters of a row's name."""
_MODES = {
    "direct": "direct answers",
    "refined": "refined answers",
    "consistency": "majority of samples",
    "both": "majority of refined samples",
}
_DATA = {
    "first": "first responses of the rounds that are right in %",
    "candidates": "chosen answers of the rounds, before the filter, that are right in %",
    "kept": "kept answers of the rounds that are right in %",
}
LEGEND = (
    "±: with several seeds the standard error of the mean over them; a difference or gain is taken seed by seed, on "
    "the same rows. With one seed, or where seeds share it, a share has its 95 % interval (Wilson) as [low, high], a "
    "difference or gain the paired standard error over the rows and McNemar's exact p; of texts and open-ended prompts "
    "each has the standard error over the rows, and a difference the sign test's p. gain: the last round over meta. "
    "last: the difference where the rounds of both end."
)


@dataclass(frozen=True)
class Grid:
    """A table: a row a name, its cells of one or two lines."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def as_text(found: Comparison) -> str:
    """Tables of at most 80 columns; one with more checkpoints than fit is broken into several."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, force_terminal=False, color_system=None)
    for line in _runs(found):
        console.print(textwrap.fill(line, WIDTH, subsequent_indent="    "), markup=False, highlight=False)
    for grid in _grids(found):
        for number, part in enumerate(_parts(grid)):
            title = grid.title if number == 0 else f"{grid.title} (continued)"
            console.print(f"\n{title}", markup=False, highlight=False)
            rows = [[_short(name), *cells] for name, cells in part.rows]
            console.print(plain_table(None, ["", *part.columns], rows))
    console.print("")
    for line in [*_otherwise(found), LEGEND]:
        console.print(textwrap.fill(line, WIDTH, subsequent_indent="    "), markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def as_markdown(found: Comparison) -> str:
    """The same tables, whole."""
    blocks = ["\n".join(f"- {_escaped(line)}" for line in _runs(found))]
    for grid in _grids(found):
        head = ["", *grid.columns]
        lines = [f"| {' | '.join(map(_escaped, head))} |", f"|{'---|' * len(head)}"]
        lines += [f"| {' | '.join(_escaped(cell) for cell in (name, *cells))} |" for name, cells in grid.rows]
        blocks += [f"**{_escaped(grid.title)}**", "\n".join(lines)]
    blocks += ["\n".join(f"- {_escaped(line)}" for line in _otherwise(found)), LEGEND]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")


# --- what is said beside the tables


def _runs(found: Comparison) -> Iterator[str]:
    if found.scorer is not None:
        yield f"right: by the scorer {found.scorer}, on the sets that have it"
    for row in found.rows:
        seeds = ", ".join(str(member.seed) for member in row.members)
        one = len(row.members) == 1
        yield f"{row.name}: {'seed' if one else f'{len(row.members)} seeds:'} {seeds}"
        if labels := next((member.labels for member in row.members if member.labels is not None), None):
            yield f"  reads labels in its rounds, by {labels}: a baseline, no self-improvement"
        for member in row.members:
            if member.ended is not None:
                yield f"  seed {member.seed} ended early: {member.ended.partition('. ')[0]}"
            elif not member.complete:
                yield f"  seed {member.seed} is not complete: selfevo status {member.run_dir}"
        yield from _lacking(found, row.name)
        if row.name != found.baseline:
            yield from _other_tokens(found, row)


def _lacking(found: Comparison, row: str) -> Iterator[str]:
    """The sets that a row has no figures on; it is in none of their tables."""
    keys = [*found.accuracy, *found.judged, *found.texts]
    sets = list(dict.fromkeys(set_name for set_name, *_ in keys))
    own, first = ({key[0] for key in keys if key[2] == name} for name in (row, found.baseline))
    if lacking := [set_name for set_name in sets if set_name not in own]:
        yield f"  has no figures on {', '.join(lacking)}"
    if row != found.baseline and not own & first:
        yield f"  has no set in common with {found.baseline}: there is nothing to compare them by"


def _other_tokens(found: Comparison, row: Row) -> Iterator[str]:
    """Where the same ordinary answers are other tokens to a row than to the baseline."""
    first = next(one for one in found.rows if one.name == found.baseline)

    def counts(of: Row) -> dict[tuple[str, frozenset[str]], int]:
        return {
            (at, frozenset(id for id, value in m.texts[ORDINARY, LIKELIHOOD, at].items() if value is not None)): tokens
            for m in of.members
            for at, tokens in m.ordinary_tokens.items()
        }

    own, its = counts(row), counts(first)
    if other := next((key for key in own if own[key] != its.get(key, own[key])), None):
        yield (
            f"  another tokenizer than {first.name}'s: ordinary answers are {own[other]:,} tokens to its models and "
            f"{its[other]:,} to those, so that their log-likelihoods, in nats a token, cannot be compared"
        )


def _otherwise(found: Comparison) -> Iterator[str]:
    for name, keys in found.config.items():
        told = [
            f"{key} {_value(here)} ({found.baseline}: {_value(there)})"
            for key, (there, here) in keys.items()
            if not key.startswith(CONTENT)
        ]
        # a digest says nothing to people; where one side has none, the key of what it lacks is among the others
        told += [key for key, sides in keys.items() if key.startswith(CONTENT) and None not in sides]
        yield f"{name} differs from {found.baseline} in: {'; '.join(told) or 'nothing'}"


def _value(value: object) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# --- tables


def _grids(found: Comparison) -> Iterator[Grid]:
    names = [row.name for row in found.rows]
    for measure in dict.fromkeys(key[:2] for key in found.accuracy):
        name = f"{measure[0]}, {_MODES[measure[1]]}"
        figures = {key[2:]: figure for key, figure in found.accuracy.items() if key[:2] == measure}
        yield _grid(f"{name}: accuracy in %", names, {key: _share(key[1], figure) for key, figure in figures.items()})
        apart = {key[2:]: figure for key, figure in found.differences.items() if key[:2] == measure}
        # where every run has the baseline's answers there is nothing to show; as many right ones may be others
        told = {column for (_, column), figure in apart.items() if any(figure.seeds.values()) or figure.stderr}
        differences = {key: _points(figure) for key, figure in apart.items() if key[1] in told}
        if differences:
            others = [row for row in names if row != found.baseline]
            yield _grid(f"{name}: difference to {found.baseline} in points", others, differences)
    yield from _texts(found)
    yield from _judged(found)
    for kind in DATA.values():
        shares = {key[1:]: _share(key[2], figure) for key, figure in found.data.items() if key[0] == kind}
        if shares:
            yield _grid(_DATA[kind], names, shares)


def _texts(found: Comparison) -> Iterator[Grid]:
    """Of faults those that some answer has; and of ordinary answers."""
    names = [row.name for row in found.rows]
    others = [row for row in names if row != found.baseline]
    for measure in dict.fromkeys(key[:2] for key in found.texts):
        figures = {key[2:]: figure for key, figure in found.texts.items() if key[:2] == measure}
        if not any(any(figure.seeds.values()) for figure in figures.values()):
            continue
        likely = measure[1] == LIKELIHOOD
        title = f"{measure[0]}, {'log-likelihood in nats a token' if likely else f'answers that are {measure[1]} in %'}"
        one, apart = (_mark, _marks) if likely else (_rate, _points)
        yield _grid(title, names, {key: one(figure) for key, figure in figures.items()})
        gains = {key[2:]: apart(figure) for key, figure in found.text_differences.items() if key[:2] == measure}
        if gains:
            yield _grid(f"{title}, difference to {found.baseline}", others, gains)


def _judged(found: Comparison) -> Iterator[Grid]:
    """Of open-ended prompts."""
    names = [row.name for row in found.rows]
    for set_name, measure in dict.fromkeys(key[:2] for key in found.judged):
        marks = measure == MARK
        title = f"{set_name}, open-ended: {'marks from 1 to 10' if marks else f'{measure} in %'}"
        one, apart = (_mark, _marks) if marks else (_rate, _points)
        cells = {key[2:]: one(figure) for key, figure in found.judged.items() if key[:2] == (set_name, measure)}
        yield _grid(title, names, cells)
        gains = found.judged_differences.items()
        differences = {key[2:]: apart(figure) for key, figure in gains if key[:2] == (set_name, measure)}
        if differences:
            others = [row for row in names if row != found.baseline]
            yield _grid(f"{title}, difference to {found.baseline}", others, differences)


def _grid(title: str, names: Sequence[str], cells: dict[tuple[str, str], str]) -> Grid:
    columns = [name for name in dict.fromkeys(column for _, column in cells) if name != GAIN]
    if any(column == GAIN for _, column in cells):
        columns.append(GAIN)
    known = [name for name in names if any(row == name for row, _ in cells)]
    return Grid(title, columns, [(name, [cells.get((name, column), "-") for column in columns]) for name in known])


def _share(column: str, figure: Figure) -> str:
    if column == GAIN:
        return _points(figure)
    shown = f"{100 * figure.mean:.1f}"
    if figure.stderr is not None:
        return f"{shown} ± {100 * figure.stderr:.1f}"
    if figure.rows is None:
        return shown
    limits = wilson(round(figure.mean * figure.rows), figure.rows)
    low, high = (f"{100 * limit:.1f}".replace("100.0", "100") for limit in limits)
    return f"{shown}\n[{low}, {high}]"


def _points(figure: Figure) -> str:
    shown = f"{100 * figure.mean:+.1f}"
    if figure.stderr is not None:
        shown += f" ± {100 * figure.stderr:.1f}"
    return shown if figure.p is None else f"{shown}\n{p_value(figure.p)}"


def _rate(figure: Figure) -> str:
    return f"{100 * figure.mean:.1f}" + ("" if figure.stderr is None else f" ± {100 * figure.stderr:.1f}")


def _mark(figure: Figure) -> str:
    return f"{figure.mean:.2f}" + ("" if figure.stderr is None else f" ± {figure.stderr:.2f}")


def _marks(figure: Figure) -> str:
    shown = f"{figure.mean:+.2f}" + ("" if figure.stderr is None else f" ± {figure.stderr:.2f}")
    return shown if figure.p is None else f"{shown}\n{p_value(figure.p)}"


_GAP = 2


def _parts(grid: Grid) -> Iterator[Grid]:
    """As many columns at a time as fit."""
    room = WIDTH - max(len(_short(name)) for name, _ in grid.rows)
    at = 0
    while at < len(grid.columns):
        end, used = at, 0
        while end < len(grid.columns) and (end == at or used + _GAP + _column(grid, end) <= room):
            used += _GAP + _column(grid, end)
            end += 1
        yield Grid(grid.title, grid.columns[at:end], [(name, cells[at:end]) for name, cells in grid.rows])
        at = end


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"...{name[-_NAME + 3 :]}"


def _width(text: str) -> int:
    return max(map(len, text.split("\n")))


def _column(grid: Grid, number: int) -> int:
    return max(_width(grid.columns[number]), *(_width(cells[number]) for _, cells in grid.rows))
