"""What a run shows: its table, its JSON, its transcripts."""

from selfevo_jax.report.summary import Row, Summary, summarize
from selfevo_jax.report.table import LEGEND, percent, table, verdict_on_run
from selfevo_jax.report.transcripts import Transcript, pick, transcripts

__all__ = [
    "LEGEND",
    "Row",
    "Summary",
    "Transcript",
    "percent",
    "pick",
    "summarize",
    "table",
    "transcripts",
    "verdict_on_run",
]
