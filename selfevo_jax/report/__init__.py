"""What a run shows: its table, its JSON, its transcripts; and several runs side by side."""

from selfevo_jax.report.cells import WIDTH, estimate, percent
from selfevo_jax.report.comparison import Comparison, compare
from selfevo_jax.report.comparison_table import as_markdown, as_text
from selfevo_jax.report.entries import KINDS, VERDICTS, Entry, Wanted, answers_of, chains_of, rollouts_of
from selfevo_jax.report.legend import legend
from selfevo_jax.report.open_ended import OpenRow, open_transcripts, verdict_on_open
from selfevo_jax.report.page import Limits, page_of, write_page
from selfevo_jax.report.status import Phase, Status, status
from selfevo_jax.report.summary import Row, Summary, checkpoints, summarize
from selfevo_jax.report.table import MODES, beside, demands, tables
from selfevo_jax.report.texts import OrdinaryRow, ordinary_line, text_line
from selfevo_jax.report.transcripts import Transcript, pick, transcript, transcripts
from selfevo_jax.report.verdicts import sentences, verdict_on_run

__all__ = [
    "KINDS",
    "MODES",
    "VERDICTS",
    "WIDTH",
    "Comparison",
    "Entry",
    "Limits",
    "OpenRow",
    "OrdinaryRow",
    "Phase",
    "Row",
    "Status",
    "Summary",
    "Transcript",
    "Wanted",
    "answers_of",
    "as_markdown",
    "as_text",
    "beside",
    "chains_of",
    "checkpoints",
    "compare",
    "demands",
    "estimate",
    "legend",
    "open_transcripts",
    "ordinary_line",
    "page_of",
    "percent",
    "pick",
    "rollouts_of",
    "sentences",
    "status",
    "summarize",
    "tables",
    "text_line",
    "transcript",
    "transcripts",
    "verdict_on_open",
    "verdict_on_run",
    "write_page",
]
