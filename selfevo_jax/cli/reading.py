"""Commands that show what a run has made: report, show."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selfevo_jax.cli.common import Force, app, check_output, console, say
from selfevo_jax.cli.targets import RunTarget, run_of
from selfevo_jax.errors import ConfigError
from selfevo_jax.progress import counted

if TYPE_CHECKING:
    from selfevo_jax.report import Entry, Wanted
    from selfevo_jax.run import RunDir


def show_run(run: RunDir, keep: bool = False) -> None:
    """The table of a run; with `keep`, by the process that has made it, it is also stored beside it. Process 0 shows
    it, the others wait."""
    from selfevo_jax import hosts
    from selfevo_jax.report import WIDTH, legend, sentences, summarize, tables
    from selfevo_jax.run.files import to_json
    from selfevo_jax.run.warned import warned

    if hosts.is_writer():
        summary = summarize(run)
        shown = list(tables(summary))
        say(f"\n{summary.run_dir}")
        for table in shown:
            (console if console.is_terminal else Console(width=WIDTH, quiet=console.quiet)).print("", table)
        say("")
        for told in sentences(summary):
            say(textwrap.fill(told, WIDTH))
        for told in [*summary.warnings, *([] if keep else warned(run))]:  # who has made it has heard them
            # commands and paths in it can be copied
            say(textwrap.fill(f"Warning: {told}", WIDTH, break_long_words=False, break_on_hyphens=False), "yellow")
        for told in legend(shown):
            say("\n" + textwrap.fill(told, WIDTH), "dim")
    hosts.gather("showing the run", None)
    if keep:
        run.write(run.report_file, lambda: to_json(summarize(run).to_dict()))


@app.command()
def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="A run directory, here or on gs://; with --html several.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[
        str | None, typer.Option(help="Write one page with figures, charts and chains; of several runs, side by side.")
    ] = None,
    chains: Annotated[
        int | None, typer.Option(min=0, help="With --html: chains of each round in the page; default: up to 400.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--set", help="With --html and several runs: a set to compare; default: all.")
    ] = None,
    force: Force = False,
) -> None:
    """Show the table of a run, finished or not; or write its page.

    The page is one file, which needs no network. Those of its chains that were cut, failed or spoilt, or that have a
    verdict that is unread or untrue, are up to half of what it holds of a large round; the others are drawn evenly.

    Example:

        selfevo report runs/quickstart --json
        selfevo report runs/quickstart --html quickstart.html
        selfevo report runs/self-1 runs/plain-1 --html both.html
    """
    from selfevo_jax.report import summarize
    from selfevo_jax.run.warned import warned

    found = [run_of(run) for run in dict.fromkeys(runs)]
    if html is not None:
        if as_json:
            raise ConfigError("--json and --html: choose one of them")
        _write(found, html, chains, only or [], force)
    elif len(found) > 1:
        raise ConfigError(
            f"report: {len(found)} runs; write one page of them with --html FILE, or show their table: selfevo compare"
        )
    elif as_json:
        print(json.dumps(summarize(found[0]).to_dict() | {"said": warned(found[0])}, indent=2))
    else:
        show_run(found[0])


def _write(runs: list[RunDir], html: str, chains: int | None, sets: list[str], force: bool) -> None:
    from selfevo_jax.report import Limits, page_of
    from selfevo_jax.storage import place, storage_of

    out = place(html)
    for run in runs:
        run.require_run()
    check_output(out, force)
    for run in runs:
        if out.parent.resolve() == run.root.resolve() and run.sums.digest(run.root / out.name) is not None:
            raise ConfigError(f"{out}: a record of the run itself, which `selfevo evolve` writes; name another file")
        if out.exists() and out.suffix != ".html" and out.resolve().is_relative_to(run.root.resolve()):
            raise ConfigError(f"{out}: a file of the run itself, and no page; name another file")
    limits = Limits() if chains is None else Limits(chains=chains, characters=None)
    content = page_of(runs, limits, sets)
    storage_of(out).write(out, content)
    say(f"{out}: {'a page' if len(runs) == 1 else f'a page of {len(runs)} runs'}, {len(content) / 1000:,.0f} KB")


@app.command()
def show(
    run: RunTarget,
    number: Annotated[
        int | None, typer.Option("--round", min=0, help="Default: every round; 0 with --set: meta.")
    ] = None,
    set_name: Annotated[
        str | None, typer.Option("--set", help="Answers to this evaluation set, in place of the chains of rounds.")
    ] = None,
    wrong: Annotated[bool | None, typer.Option("--wrong/--right", help="By the grade of the chosen answer.")] = None,
    kept: Annotated[bool | None, typer.Option("--kept/--dropped", help="Whether the round learns from it.")] = None,
    clipped: Annotated[bool, typer.Option("--clipped", help="Where a text was cut at a limit.")] = False,
    kind: Annotated[list[str] | None, typer.Option(help="What became of it, such as spoilt.")] = None,
    verdict: Annotated[
        list[str] | None, typer.Option(help="Its verdict beside gold, such as 'good but wrong'.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What its prompt has in it, or its id.")] = None,
    search: Annotated[str | None, typer.Option(help="What some text of it has in it.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many to show; 0: all.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show chains of a run: prompt, response, feedback, refinement, verdict and gold answer.

    Without a round they come round by round, so that --prompt shows one prompt over the rounds. The filters are those
    of the page. Gold answers and grades of a round's chains are known when the round has learnt.

    Example:

        selfevo show runs/quickstart --round 3 --wrong
        selfevo show runs/quickstart --verdict "good but wrong" --limit 3
        selfevo show runs/quickstart --set stories --prompt "Leo has 19 shells"
    """
    from selfevo_jax.report import KINDS, VERDICTS, Wanted, transcript

    for given, known, option in ((kind, KINDS, "--kind"), (verdict, VERDICTS, "--verdict")):
        for one in given or ():
            if one not in known:
                raise ConfigError(f"{option} {one}: unknown; expected one of {', '.join(known)}")
    wanted = Wanted(
        frozenset(kind or ()),
        frozenset(verdict or ()),
        None if wrong is None else not wrong,
        kept,
        clipped,
        prompt,
        search,
    )
    found, told = _found(_entries(run_of(run), number, set_name), wanted, limit, set_name is None)
    if as_json:
        print(json.dumps([entry.to_dict() for entry in found], indent=2))
        return
    for entry in found:
        say(f"{transcript(entry).text()}\n")
    say(told, "dim")


def _found(entries: Iterator[Entry], wanted: Wanted, limit: int, of_rounds: bool) -> tuple[list[Entry], str]:
    """The first entries that are wanted; and how many there are, in words. `of_rounds`: no evaluation set's."""
    found: list[Entry] = []
    seen = fitting = ungraded = 0
    for entry in entries:
        seen += 1
        ungraded += entry.right[1] is None
        if wanted.has(entry):
            fitting += 1
            if not limit or fitting <= limit:
                found.append(entry)
    told = f"{fitting:,} of {seen:,} chains"
    if len(found) < fitting:
        told += f", the first {len(found):,} are shown (--limit)"
    if not ungraded:
        return found, told
    cure = "; --set NAME shows the answers of an evaluation set" if of_rounds and ungraded == seen else ""
    return found, f"{told}; {ungraded:,} of all have no grade{cure}"


def _entries(run: RunDir, number: int | None, set_name: str | None) -> Iterator[Entry]:
    """Raises ConfigError where there is nothing of that kind."""
    from selfevo_jax.report import answers_of, chains_of, checkpoints, summarize

    summary = summarize(run)
    if set_name is not None:
        sets = dict.fromkeys(row.set for row in summary.rows if row.direct is not None)
        if set_name not in sets:
            raise ConfigError(f"--set {set_name}: no such evaluation set; there are {', '.join(sets) or 'none'}")
        names = [
            of for of in checkpoints(summary) if number is None or of[0] == (f"round {number}" if number else "meta")
        ]
        if not names:
            raise ConfigError(f"--round {number}: not finished; {run.root} has {counted(len(summary.rounds), 'round')}")
        for shown, name in names:
            yield from answers_of(run, name, shown, set_name)
        return
    last = len(summary.rounds) + 1  # its chains may be finished
    numbers = range(1, last + 1) if number is None else [number]
    some = False
    for one in numbers:
        for entry in chains_of(run, one):
            some = True
            yield entry
    if not some:
        raise ConfigError(
            f"{run.root}: no finished chains of {'any round' if number is None else f'round {number}'}; "
            f"{counted(len(summary.rounds), 'round')} finished"
        )
