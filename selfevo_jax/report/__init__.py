"""What a run shows: its table, its JSON, its transcripts; and several runs side by side."""

from selfevo_jax.report.comparison import Comparison, compare
from selfevo_jax.report.comparison_table import as_markdown, as_text
from selfevo_jax.report.status import Phase, Status, status
from selfevo_jax.report.summary import Row, Summary, summarize
from selfevo_jax.report.table import LEGEND, MODES, WIDTH, beside, percent, tables, verdict_on_run
from selfevo_jax.report.transcripts import Transcript, pick, transcripts

__all__ = [
    "LEGEND",
    "MODES",
    "WIDTH",
    "Comparison",
    "Phase",
    "Row",
    "Status",
    "Summary",
    "Transcript",
    "as_markdown",
    "as_text",
    "beside",
    "compare",
    "percent",
    "pick",
    "status",
    "summarize",
    "tables",
    "transcripts",
    "verdict_on_run",
]
