"""What the words of the tables mean, for the words that a run's tables have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.table import Table

from selfevo_jax.report.cells import words
from selfevo_jax.report.open_ended import LEGEND as OPEN_LEGEND
from selfevo_jax.report.texts import LEGEND as TEXT_LEGEND

_LEGEND = (
    (r"\[", "[low, high]: the 95 % interval (Wilson)."),
    (
        r"(failed|not scored) \d",
        "failed, not scored: rows that could not be run, or not be scored, which are in no share.",
    ),
    (r"no answer \d", "no answer: rows without one, not right."),
    (r"mean \d", "mean: of grades between right and wrong."),
    (r"demands met", "demands met: of all that rows have; the interval takes those of a row together."),
    (r"clipped \d", "clipped: answers cut at a limit."),
    (
        r"^gain\n(-\n)*[+-]\d",
        "gain: direct against meta on the same rows, ± the paired standard error, with McNemar's exact p.",
    ),
    (
        r"^mended$",
        "mended, spoilt: answers that refinement made right, or wrong. precision: of the answers judged good, those "
        "that are right; recall: of the right ones, those judged good.",
    ),
    (
        r"^kept right$",
        "kept: rows of the round that passed the filter (by the model's own feedback, or judge.batch). first, "
        "candidates, kept right: how many of the round's first responses, of its chosen answers before the filter, "
        "and of the kept ones are right (gold is read after the round). controls: planted wrong answers that the "
        "judge called good; unread: those on which its feedback cannot be read.",
    ),
    (
        r"^written$",
        "written: prompts by the model, of those that the round was to have; refused: what else its texts held, by "
        "the reason.",
    ),
)
"""What shows in the tables, as a pattern over heads with their cells, and what it means."""


def legend(tables: Iterable[Table]) -> list[str]:
    """Paragraphs on what is in the tables of a run; none where there is no table."""
    shown = "\n".join(words(table) for table in tables)
    return [told for entries in (_LEGEND, OPEN_LEGEND, TEXT_LEGEND) if (told := _of(entries, shown))]


def _of(entries: Sequence[tuple[str, str]], shown: str) -> str:
    return " ".join(meaning for pattern, meaning in entries if re.search(pattern, shown, re.MULTILINE))
