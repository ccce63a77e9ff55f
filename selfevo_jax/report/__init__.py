"""What a run shows: its table, its JSON, its transcripts."""

from selfevo_jax.report.status import Phase, Status, status
from selfevo_jax.report.summary import Row, Summary, summarize
from selfevo_jax.report.table import LEGEND, WIDTH, beside, percent, tables, verdict_on_run
from selfevo_jax.report.transcripts import Transcript, pick, transcripts

__all__ = [
    "LEGEND",
    "WIDTH",
    "Phase",
    "Row",
    "Status",
    "Summary",
    "Transcript",
    "beside",
    "percent",
    "pick",
    "status",
    "summarize",
    "tables",
    "transcripts",
    "verdict_on_run",
]
