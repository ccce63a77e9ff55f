"""What a run shows: its table, its JSON, its transcripts; and several runs side by side."""

from selfevo_jax.report.cells import WIDTH, estimate, percent
from selfevo_jax.report.comparison import Comparison, compare
from selfevo_jax.report.comparison_table import as_markdown, as_text
from selfevo_jax.report.open_ended import LEGEND as OPEN_LEGEND
from selfevo_jax.report.open_ended import OpenRow, open_transcripts, verdict_on_open
from selfevo_jax.report.status import Phase, Status, status
from selfevo_jax.report.summary import Row, Summary, summarize
from selfevo_jax.report.table import LEGEND, MODES, beside, demands, tables, verdict_on_run
from selfevo_jax.report.texts import LEGEND as TEXT_LEGEND
from selfevo_jax.report.texts import OrdinaryRow, ordinary_line, text_line
from selfevo_jax.report.transcripts import Transcript, pick, transcripts

__all__ = [
    "LEGEND",
    "MODES",
    "OPEN_LEGEND",
    "TEXT_LEGEND",
    "WIDTH",
    "Comparison",
    "OpenRow",
    "OrdinaryRow",
    "Phase",
    "Row",
    "Status",
    "Summary",
    "Transcript",
    "as_markdown",
    "as_text",
    "beside",
    "compare",
    "demands",
    "estimate",
    "open_transcripts",
    "ordinary_line",
    "percent",
    "pick",
    "status",
    "summarize",
    "tables",
    "text_line",
    "transcripts",
    "verdict_on_open",
    "verdict_on_run",
]
