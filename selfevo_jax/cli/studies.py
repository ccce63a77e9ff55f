"""Commands about several runs: study, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from selfevo_jax.cli.common import (
    Overrides,
    app,
    console,
    say,
)
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.errors import ConfigError

StudyFile = Annotated[Path, typer.Argument(help="YAML of base, out, variants; see studies/.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]


@app.command("study")
@with_hosts
def study_command(
    study: StudyFile,
    overrides: Overrides = None,
    *,
    group: Hosts,
) -> None:
    """Run named variants of one config over seeds, and write their table. The same command goes on where it stopped.

    Runs share what rests on equal inputs: nothing is sampled or trained twice. Overrides of `out`, `seeds`, `variants`
    and `baseline` are the study's, all others hold for every run.

    Example:

        selfevo study studies/quickstart.yaml
        selfevo study studies/quickstart.yaml seeds=[1] out=runs/short rounds.number=1
    """
    from selfevo_jax.study import read_study

    given = overrides or []
    with group.together(lambda: read_study(study, given).out):
        _study(study, given)


def _study(path: Path, overrides: list[str]) -> None:
    from selfevo_jax import hosts, notice
    from selfevo_jax.progress import Reporter
    from selfevo_jax.run.names import PAGE
    from selfevo_jax.study import conduct, read_study
    from selfevo_jax.study.conduct import TABLE

    reporter, study = Reporter(console, quiet=console.quiet), read_study(path, overrides)
    try:
        with notice.heeded():
            worked = conduct(study, reporter)
    except KeyboardInterrupt:
        reporter.line("\nStopped by Ctrl-C; the same command goes on from here.")
        raise
    if hosts.is_writer():
        if worked:
            say("\n" + (study.out / f"{TABLE}.txt").read_text(encoding="utf-8").rstrip())
        else:
            say(f"{study.file}: all {len(study.runs)} runs are at their end; there is nothing to do.")
        say(f"The table is in {study.out}: {TABLE}.txt, {TABLE}.json, {TABLE}.md")
        say(f"Each run has its page: {study.out}/VARIANT/seed-N/{PAGE}")


@app.command("compare")
def compare_command(
    runs: Annotated[list[str], typer.Argument(help="Run directories, here or on gs://.", show_default=False)],
    baseline: Annotated[str | None, typer.Option(help="The row to compare with; default: the first.")] = None,
    only: Annotated[list[str] | None, typer.Option("--set", help="An evaluation set; default: all.")] = None,
    scorer: Annotated[
        str | None, typer.Option(help="Compare by the grades of this scorer; default: the first one of each set.")
    ] = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Show runs side by side: runs that differ in the seed alone are one row, with mean and standard error.

    Differences to the baseline are taken on the same evaluation rows; runs that were measured on other rows or by
    another scorer are refused. Safe on live runs.

    Example:

        selfevo compare runs/self-1 runs/self-2 runs/plain-1 runs/plain-2 --baseline self
    """
    from selfevo_jax import report
    from selfevo_jax.run import RunDir

    if as_json and as_markdown:
        raise ConfigError("--json and --markdown: choose one of them")
    given = [RunDir(run) for run in dict.fromkeys(runs)]
    for run in given:
        run.require_run()
    found = report.compare(given, baseline, sets=only or (), scorer=scorer)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        say((report.as_markdown(found) if as_markdown else report.as_text(found)).rstrip())
