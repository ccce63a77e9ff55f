"""One call of `selfevo annotate`: what is there is read, what is missing is asked, and the rows are written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfevo_jax import hosts, notice
from selfevo_jax.annotate.asked import Asker
from selfevo_jax.annotate.batch import MOST, read_results, request_lines
from selfevo_jax.annotate.conduct import Outcome, annotate
from selfevo_jax.annotate.cost import Ledger
from selfevo_jax.annotate.estimate import estimate, shown
from selfevo_jax.annotate.files import Files
from selfevo_jax.annotate.questions import Questions
from selfevo_jax.annotate.responses import Base, response_tokens
from selfevo_jax.annotate.rows import Prompt, read_rows
from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.annotate.summary import cost_text, described, lost_line, no_rows, summarize, usage_lines
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError, EmptySelectionError, SelfevoError
from selfevo_jax.judges.endpoint import server_notice
from selfevo_jax.progress import Reporter, counted, in_words
from selfevo_jax.rounds.generate import Length
from selfevo_jax.rounds.texts import Kept, journal_of
from selfevo_jax.run.journal import rows_so_far
from selfevo_jax.run.lock import alone
from selfevo_jax.storage import refuse_input, storage_of


@dataclass(frozen=True)
class Call:
    """What the command is asked for. Raises ConfigError for things that do not go together."""

    section: AnnotateSection
    prompts: str
    out: str
    live: bool
    """Whether the server is asked."""
    dry_run: bool = False
    requests: Path | None = None
    """The file for a batch's requests."""
    results: tuple[str, ...] = ()
    """Files of a batch's answers."""
    force: bool = False
    again: bool = False
    """Whether answers that are there and cannot be used are asked for once more."""
    base: Callable[[], tuple[Config, Length]] | None = None
    """Makes the config of a base that is sampled here, and says what becomes of its `sampling.cache_length`."""

    def __post_init__(self) -> None:
        section = self.section
        if self.dry_run and (self.requests is not None or self.results):
            raise ConfigError("--dry-run: shows what would be asked, and reads and writes no batch file; leave one out")
        if self.requests is not None and section.max_cost is not None:
            raise ConfigError(
                "--max-cost: a batch is asked by its server, which no limit here can stop; look at --dry-run, and use "
                "--limit"
            )
        if (self.requests is not None or self.results) and section.responses.model is not None:
            raise ConfigError(
                "--response-model: a batch file is for one model; have the responses first (selfevo annotate PROMPTS "
                "answers.jsonl --kind qa --model NAME), and then name answers.jsonl with --column response=answer"
            )

    @functools.cached_property
    def files(self) -> Files:
        return Files(self.out)

    @functools.cached_property
    def sampled(self) -> tuple[Config, Length] | None:
        """The base that is sampled here, opened."""
        return None if self.base is None else self.base()

    @property
    def base_config(self) -> Config | None:
        return None if self.sampled is None else self.sampled[0]

    @functools.cached_property
    def made_by(self) -> dict[str, Any]:
        """See `summary.described`."""
        return described(self.section, self.prompts, self.base_config)

    def check_output(self) -> None:
        """Raises ConfigError, before any work, where a file would be lost."""
        reads = [self.prompts, self.section.responses.base, *self.results]
        refuse_input(self.files.out, reads)
        self.files.check(self.force, self.made_by)
        if self.requests is None:
            return
        refuse_input(self.requests, [*reads, self.files.out])
        if self.requests.is_dir():
            raise ConfigError(f"{self.requests}: a folder; name a file to write")
        if self.requests.exists() and not self.force:
            raise ConfigError(f"{self.requests}: exists already; name another file, or write over it with --force")


def run(call: Call, reporter: Reporter) -> None:
    """Makes the call. What was answered before it ends, however it ends, is kept.

    Raises:
      DataError: a row of PROMPTS cannot be used.
      EmptySelectionError: nothing gave a row.
      SelfevoError: the server answers nothing any more, or the limit of the cost is reached.
    """
    section = call.section
    Questions(section)  # a faulty template is refused before any work
    for line in section.unread():
        reporter.warn(line)
    read = hosts.agree("the prompts", lambda: [asdict(row) for row in read_rows(call.prompts, section, reporter.warn)])
    prompts = [Prompt(**row) for row in read]
    ledger = Ledger(section.max_cost)
    if call.dry_run:
        kept = Kept(None, rows_so_far(call.files.asked))
        _show_estimate(call, prompts, Asker(kept, ledger, reporter, False, call.again))
        return
    hosts.agree("looking at the output", call.check_output)
    with notice.heeded(), alone(call.files.out), journal_of(call.files.asked, "", reporter) as journal:
        kept = Kept(journal)
        for path in call.results:
            _take(path, section, kept, reporter)
        asker = Asker(kept, ledger, reporter, call.live, call.again)
        base = None if call.sampled is None else Base(*call.sampled, call.files.sampled, reporter)
        if call.live and not section.responses.given:
            _look_at(section, reporter)
        found = annotate(section, call.prompts, prompts, asker, base)
        if call.requests is not None and asker.pending:
            _write_requests(call.requests, asker)
        elif hosts.is_writer():
            _finish(call, found, asker)


def _look_at(section: AnnotateSection, reporter: Reporter) -> None:
    """Says what is wrong with the server before responses are sampled, or asked of another model, for minutes."""
    said = hosts.agree("looking at the server", lambda: server_notice(section.endpoint))
    if said is not None:
        reporter.warn(f"{said}; the responses come first, and then it is asked")


def _take(path: str, section: AnnotateSection, kept: Kept, reporter: Reporter) -> None:
    if hosts.count() > 1:
        raise ConfigError("--read-results: for one process; run it without --coordinator")
    found = read_results(path, section.endpoint, kept)
    reporter.line(f"{path}: {counted(found.read, 'answer')} read, {found.known:,} were there already")
    if found.others:
        reporter.warn(f"{found.others:,} lines of {path} answer no question of this command")
    if found.lost:
        why = in_words(dict(found.lost.most_common(3)))
        reporter.warn(f"{found.lost.total():,} lines of {path} have no answer ({why})")


def _write_requests(path: Path, asker: Asker) -> None:
    if hosts.is_writer():
        path.parent.mkdir(parents=True, exist_ok=True)
        storage_of(path).write(path, request_lines(asker.pending))
    count = len(asker.pending)
    asker.reporter.line(f"{path}: {count:,} requests; have them answered, and name the answers with --read-results")
    if count > MOST:
        asker.reporter.warn(f"OpenAI's Batch API takes {MOST:,} requests in a file at most; divide it by lines")


def _show_estimate(call: Call, prompts: Sequence[Prompt], asker: Asker) -> None:
    longest = response_tokens(call.section, call.base_config)
    say, found = asker.reporter.line, estimate(call.section, call.prompts, prompts, asker, longest)
    answers = asker.ledger.answers
    there = "no answer is there yet"
    if answers:
        there = f"{counted(answers, 'answer')} {'is' if answers == 1 else 'are'} there, cost {cost_text(asker.ledger)}"
    say(f"{call.prompts}: {counted(len(prompts), 'row')}; {there}")
    if call.section.responses.base is not None:
        say(f"  responses are sampled here first; the estimate is for those of {longest} tokens, the longest")
    for stage in found:
        say(f"  {stage}")
    if not found:
        say("  nothing is left to be asked")
    if any(stage.cost is None for stage in found):
        say("  what it costs is not known; give --price-read and --price-written, of a million tokens")
    if asker.pending:
        say("\nThe first question:")
        for message in asker.pending[0][1].messages:
            say(f"--- {message['role']}\n{shown(message['content'])}")
    say("Nothing was asked (--dry-run).")


def _finish(call: Call, found: Outcome, asker: Asker) -> None:
    """Writes OUT and what stands beside it, and says what came out."""
    files, ledger, reporter = call.files, asker.ledger, asker.reporter
    files.write(found.rows, found.rejected, summarize(call.made_by, found, ledger))
    if not found.rows and not ledger.refused:
        raise EmptySelectionError(no_rows(call.section, call.base_config, found, files, asker.unusable))
    if (lost := lost_line(call.section, call.base_config, found, files, asker.unusable)) is not None:
        reporter.warn(lost)
    if found.rows:
        reporter.line(f"{files.out}: {counted(len(found.rows), 'row')}")
        for line in usage_lines(call.section, found, files):
            reporter.line(line)
    reporter.line(f"cost {cost_text(ledger)}")
    if asker.pending:
        reporter.warn(f"{len(asker.pending):,} questions have no answer yet; --write-requests FILE writes them")
    if ledger.refused:
        raise SelfevoError(
            f"stopped at --max-cost {call.section.max_cost:g}: {ledger.refused:,} questions were not asked, and "
            f"{len(found.rows):,} rows are complete. Raise it, and run the same command again, which asks only what is "
            "not answered yet"
        )
