"""What tables are made of: cells of figures, and a plain grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

WIDTH = 80
"""Columns that the tables need at most."""


def percent(value: Mapping[str, Any] | None, between: str = " ") -> str:
    """`61.7 [57.4, 65.8]`, in percent; `-` where nothing was measured."""
    if value is None or value["share"] is None:
        return "-"
    share, low, high = (f"{100 * value[key]:.1f}".replace("100.0", "100") for key in ("share", "low", "high"))
    return f"{share}{between}[{low}, {high}]"


def estimate(value: Mapping[str, Any] | None, times: float = 1.0, digits: int = 1) -> str:
    """`43.8 ± 4.1`; `-` where nothing was measured."""
    if value is None or value["value"] is None:
        return "-"
    error = "" if value["stderr"] is None else f" ± {times * value['stderr']:.{digits}f}"
    return f"{times * value['value']:.{digits}f}{error}"


def p_value(value: float) -> str:
    """`p 0.031`."""
    return "p <0.001" if value < 0.001 else f"p {value:.3f}"


def plain_table(title: str | None, headers: Sequence[str], rows: Sequence[Sequence[str]], gap: int = 2) -> Table:
    """A title, a head, rows; the first column to the left. A cell may have several lines."""
    # as text, not markup: names of sets are not ours
    shown = None if title is None else Text(title)
    out = Table(title=shown, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    out.padding = (0, gap - 1, 0, 0)  # the box itself has one column between cells
    for number, header in enumerate(headers):
        out.add_column(header, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        out.add_row(*map(Text, row))
    return out


def words(table: Table) -> str:
    """Title, heads and cells of a `plain_table`, a line each."""
    cells = (cell for column in table.columns for cell in (column.header, *column.cells))
    return "\n".join(str(part) for part in (table.title or "", *cells))
