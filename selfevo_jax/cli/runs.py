"""Commands about runs: evolve, status, verify."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfevo_jax.cli.checking import checked
from selfevo_jax.cli.common import (
    A_DAY,
    ConfigFile,
    Overrides,
    app,
    console,
    finite,
    say,
)
from selfevo_jax.cli.reading import show_run
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.cli.targets import RunTarget, run_of
from selfevo_jax.errors import EmptySelectionError, SelfevoError
from selfevo_jax.progress import counted

if TYPE_CHECKING:
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds import Controller


@app.command()
@with_hosts
def evolve(
    config: ConfigFile,
    overrides: Overrides = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would stop the run, and how long it takes; write nothing.")
    ] = False,
    *,
    group: Hosts,
) -> None:
    """Run the whole loop: meta-skill learning, then rounds. The same command goes on where a run was stopped.

    On several hosts start it on each, with a run_dir that all share; a TPU pod needs no flags. With `--check` all that
    would stop the run is said at once (exit code 1), with the time of a round, and the memory and disk that it needs.

    Example:

        selfevo evolve configs/quickstart.yaml seed=2 run_dir=runs/second
        selfevo evolve mine.yaml --check
        selfevo evolve mine.yaml --coordinator 10.0.0.2:8482 --processes 2 --process-id 0
    """
    if check:
        checked(config, overrides or [])
        return
    with group.together(lambda: _run_dir(config, overrides or [])):
        _evolve(config, overrides or [])


def _run_dir(config: Path, overrides: list[str]) -> str:
    from selfevo_jax.config import load_config

    return load_config(config, overrides).run_dir


def _evolve(config: Path, overrides: list[str]) -> None:
    from selfevo_jax.config import load_config

    loaded = load_config(config, overrides)
    from selfevo_jax import notice
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds import Controller
    from selfevo_jax.run import RunDir

    reporter = Reporter(console, quiet=console.quiet)
    run = RunDir(loaded.run_dir)
    there = run.has(run.config_file)
    try:
        with notice.heeded(), contextlib.closing(Controller(loaded, reporter)) as controller:
            _go_on(controller, there, reporter)
    except KeyboardInterrupt:
        reporter.line("\nStopped by Ctrl-C; the same command goes on from here.")
        raise


def _go_on(controller: Controller, there: bool, reporter: Reporter) -> None:
    """Makes what is left of a run, and shows what it has come to."""
    from selfevo_jax import hosts
    from selfevo_jax.api.evolving import finish, keep_page
    from selfevo_jax.report import open_transcripts, summarize, transcripts

    run = controller.dir
    try:
        finish(controller, there, reporter)
    except EmptySelectionError:
        show_run(run, keep=True)  # what the run has come to, before it says why it ends
        keep_page(run, reporter)
        raise
    show_run(run, keep=True)
    if not hosts.is_writer():
        return
    for name in controller.loop.task.evaluation():
        for found in transcripts(run, name):
            reporter.line(f"\n{found.text()}")
    for name, checkpoint in {row.set: row.checkpoint for row in summarize(run).open_ended}.items():
        for text in open_transcripts(run, checkpoint, name):
            reporter.line(f"\n{text}")
    reporter.line(f"\nThe run is in {run.root} (its table: {run.report_file.name})")
    keep_page(run, reporter)


@app.command("status")
def status_command(
    run: RunTarget,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until the run stops.")] = False,
    every: Annotated[
        float, typer.Option(help="With --watch: seconds between two looks.", min=1.0, max=A_DAY, callback=finite)
    ] = 5.0,
) -> None:
    """Where a run is, which process runs it, how far and how fast, and what is left. Safe on a live run.

    Of a run that is not running it says how the last process ended: its error, the signal, or that it was killed.

    Example:

        selfevo status runs/quickstart
        selfevo status runs/quickstart --watch
    """
    import time

    from selfevo_jax.report import status

    found = run_of(run)
    with contextlib.suppress(KeyboardInterrupt) if watch else contextlib.nullcontext():
        while True:
            seen = status(found)
            if watch and console.is_terminal and not as_json:
                console.clear()
            if as_json:
                print(json.dumps(seen.to_dict(), indent=None if watch else 2), flush=True)
            else:
                for line in seen.lines():
                    say(line)
            if not watch or seen.owner is None:
                return
            time.sleep(every)


@app.command("verify")
def verify_command(run: RunTarget) -> None:
    """Check that every finished file of a run is what was written: checksums, counts, checkpoints. Safe on a live run.

    Ends with code 2 and the files' names where something has changed.

    Example:

        selfevo verify runs/quickstart
    """
    from selfevo_jax.run import verify

    found = verify(run_of(run))
    if found.faults:
        raise SelfevoError(f"{run}: {len(found.faults)} fault(s):\n  " + "\n  ".join(found.faults))
    say(
        f"{run}: {counted(found.files, 'file')} and {counted(found.checkpoints, 'checkpoint')} are as they were written"
    )
    if found.absent:
        say(f"Not here, and nothing rests on it: {', '.join(found.absent)}")
        named = shlex.quote(str(run))
        say(f"`selfevo report {named}` shows the same: with --html FILE as a page, with --json as figures")
