"""Commands about runs: evolve, report, status, verify, eval, chat."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from selfevo_jax.cli.common import (
    ConfigFile,
    Force,
    Overrides,
    RunPath,
    app,
    check_output,
    console,
    say,
)
from selfevo_jax.cli.harness import harness_command
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.errors import ConfigError, EmptySelectionError, SelfevoError

if TYPE_CHECKING:
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds import Controller
    from selfevo_jax.run import RunDir


@app.command()
@with_hosts
def evolve(
    config: ConfigFile,
    overrides: Overrides = None,
    *,
    group: Hosts,
) -> None:
    """Run the whole loop: meta-skill learning, then rounds. The same command goes on where a run was stopped.

    On several hosts start it on each, with a run_dir that all share; a TPU pod needs no flags.

    Example:

        selfevo evolve configs/quickstart.yaml seed=2 run_dir=runs/second

        selfevo evolve mine.yaml --coordinator 10.0.0.2:8482 --processes 2 --process-id 0
    """
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
    from selfevo_jax.report import open_transcripts, summarize, transcripts

    run = controller.dir

    def is_over() -> str | None:
        """How to go on with a run that is complete."""
        found = summarize(run)
        if not found.complete:
            return None
        return "Raise rounds.number" if found.stopped is None else "Set rounds.stop_when_worse=false"

    whole = there and not run.lost()
    over = hosts.agree("whether the run is complete", is_over) if whole else None
    if over is not None:
        hosts.agree("checking the run", lambda: _require_whole(run))
        reporter.line(f"{run.root}: this run is complete. {over} to go on, or choose another run_dir.")
    else:
        if there:
            reporter.line(f"{run.root}: going on with the run that is here.")
        try:
            controller.run()
        except EmptySelectionError:
            _show(run, keep=True)  # what the run has come to, before it says why it ends
            raise
    _show(run, keep=True)
    if not hosts.is_writer():
        return
    for name in controller.loop.task.evaluation():
        for found in transcripts(run, name):
            reporter.line(f"\n{found.text()}")
    for name, checkpoint in {row.set: row.checkpoint for row in summarize(run).open_ended}.items():
        for text in open_transcripts(run, checkpoint, name):
            reporter.line(f"\n{text}")
    reporter.line(f"\nThe run is in {run.root} (its table: {run.report_file.name})")


def _require_whole(run: RunDir) -> None:
    """Raises SelfevoError with every file of a run that is not as it was written."""
    from selfevo_jax.run import verify

    if faults := verify(run).faults:
        raise SelfevoError(f"{run.root}: {len(faults)} fault(s):\n  " + "\n  ".join(faults))


def _show(run: RunDir, keep: bool = False) -> None:
    """The table of a run; with `keep` it is also stored beside it. Process 0 shows it, the others wait."""
    from selfevo_jax import hosts
    from selfevo_jax.report import (
        LEGEND,
        OPEN_LEGEND,
        TEXT_LEGEND,
        WIDTH,
        summarize,
        tables,
        verdict_on_open,
        verdict_on_run,
    )
    from selfevo_jax.run.files import to_json

    if hosts.is_writer():
        summary = summarize(run)
        say(f"\n{summary.run_dir}")
        for table in tables(summary):
            (console if console.is_terminal else Console(width=WIDTH, quiet=console.quiet)).print("", table)
        say("\n" + textwrap.fill(LEGEND, WIDTH), "dim")
        if summary.open_ended:
            say("\n" + textwrap.fill(OPEN_LEGEND, WIDTH), "dim")
        if summary.ordinary or any(row.texts for row in summary.rows):
            say("\n" + textwrap.fill(TEXT_LEGEND, WIDTH), "dim")
        say("")
        if not summary.open_ended or any(row.direct for row in summary.rows):
            say(textwrap.fill(verdict_on_run(summary), WIDTH))
        for told in verdict_on_open(summary.open_ended):
            say(textwrap.fill(told, WIDTH))
        for told in summary.warnings:
            say(textwrap.fill(f"Warning: {told}", WIDTH), "yellow")
    hosts.gather("showing the run", None)
    if keep:
        run.write(run.report_file, lambda: to_json(summarize(run).to_dict()))


@app.command()
def report(run: RunPath, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the table of a run, finished or not.

    Example:

        selfevo report runs/quickstart --json
    """
    from selfevo_jax.report import summarize
    from selfevo_jax.run import RunDir

    found = RunDir(run)
    if as_json:
        print(json.dumps(summarize(found).to_dict(), indent=2))
    else:
        _show(found)


@app.command("status")
def status_command(run: RunPath, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Where a run is, which process runs it, and what is left, phase by phase. Safe on a live run.

    Example:

        selfevo status runs/quickstart
    """
    from selfevo_jax.report import status
    from selfevo_jax.run import RunDir

    found = status(RunDir(run))
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            say(line)


@app.command("verify")
def verify_command(run: RunPath) -> None:
    """Check that every finished file of a run is what was written: checksums, counts, checkpoints. Safe on a live run.

    Ends with code 2 and the files' names where something has changed.

    Example:

        selfevo verify runs/quickstart
    """
    from selfevo_jax.run import RunDir, verify

    found = verify(RunDir(run))
    if found.faults:
        raise SelfevoError(f"{run}: {len(found.faults)} fault(s):\n  " + "\n  ".join(found.faults))
    say(f"{run}: {found.files} files and {found.checkpoints} checkpoints are as they were written")


ORDINARY = "ordinary answers"
"""Where their figures are beside those of the sets, none of which has white space in its name."""


@app.command("eval")
@with_hosts
def evaluate_command(
    config: ConfigFile,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Model to measure; default: the config's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON, and the texts beside it.")] = None,
    force: Force = False,
    harness: Annotated[
        str | None, typer.Option(help="Tasks of lm-eval in place of the config's sets: names or YAML files, by commas.")
    ] = None,
    *,
    group: Hosts,
) -> None:
    """Measure a model on the config's evaluation sets, in the modes of `evaluate.modes`, and on `data.ordinary`.

    With `--out FILE.json` the texts are written too, as FILE-SET.jsonl: prompt, answers, feedback, columns and grades.

    With `--harness` tasks of lm-evaluation-harness (extra `eval`) are answered, direct and refined, and scored by it.
    Each of their contexts is a prompt of the config's format: `format.respond="{prompt}"` asks with the bare text.
    `data.evaluation_rows` limits the rows of a task.

    Example:

        selfevo eval configs/quickstart.yaml --model runs/quickstart/checkpoints/0003 evaluate.modes=[direct,both]

        selfevo eval mine.yaml --model runs/mine/checkpoints/0003 --harness gsm8k,my_task.yaml --out harness.json
    """
    with group.together(lambda: _run_dir(config, overrides or [])):
        if harness is None:
            _evaluate(config, overrides or [], model, out, force)
        else:
            harness_command(config, overrides or [], model, harness, out, force)


def _evaluate(config: Path, overrides: list[str], model: str | None, out: Path | None, force: bool) -> None:
    from selfevo_jax.config import load_config

    changes = overrides + ([f"model.source={model}"] if model else [])
    loaded = load_config(config, changes)
    from selfevo_jax import hosts
    from selfevo_jax.data import jsonl_lines
    from selfevo_jax.progress import Reporter
    from selfevo_jax.report import ordinary_line
    from selfevo_jax.rounds.measure import measure
    from selfevo_jax.rounds.ordinary import Ordinary, ordinary_rows
    from selfevo_jax.rounds.survey import evaluation_phases, survey
    from selfevo_jax.rounds.workbench import open_workbench
    from selfevo_jax.storage import storage_of
    from selfevo_jax.tasks import open_task

    reporter = Reporter(console, quiet=console.quiet)
    task = open_task(loaded)  # first: its rows are refused before a model is opened
    answers = ordinary_rows(loaded)
    if not task.evaluation() and not answers:
        raise ConfigError(f"{config}: data.evaluation: empty; name a set, such as data.evaluation.gsm8k=FILE")
    texts = {name: out.with_name(f"{out.stem}-{name}.jsonl") for name in task.evaluation()} if out is not None else {}

    def check() -> None:
        for file in (out, *texts.values()) if out is not None else ():
            check_output(file, force)

    hosts.agree("looking at the output", check)
    bench = open_workbench(loaded)
    ordinary = Ordinary.of(answers, bench)
    phases = [phase for of in task.evaluation().values() for phase in evaluation_phases(bench, of.rows, 1)]
    bench.engine.fit(survey(bench, phases))
    params = bench.base_params()
    found = {}
    for name, of in task.evaluation().items():
        found[name], rows = measure(bench, params, of, name, reporter)
        _say_figures(name, found[name])
        if name in texts and hosts.is_writer():
            storage_of(texts[name]).write(texts[name], b"".join(jsonl_lines(rows)))
    if ordinary is not None:
        found[ORDINARY] = ordinary.measure(bench, params, ORDINARY, reporter)
        say(f"{ORDINARY}: log-likelihood {ordinary_line(found[ORDINARY])}")
    if out is not None and hosts.is_writer():
        storage_of(out).write(out, (json.dumps(found, indent=2) + "\n").encode())


def _say_figures(name: str, figures: dict[str, Any]) -> None:
    from selfevo_jax.data import selected
    from selfevo_jax.report import MODES, beside, demands, percent, text_line

    if figures["selection"] is not None:
        say(f"{name}: {selected(**figures['selection'])}")

    by_scorer = {"": figures} | {f" by {scorer}": modes for scorer, modes in figures["further"].items()}
    for scorer, modes in by_scorer.items():
        for mode in MODES:
            if modes.get(mode) is not None:
                found = [f"{name} {mode}{scorer}: {percent(modes[mode])} %", *beside(modes[mode])]
                say(", ".join([*found, *(f"demands {told}" for told in demands(modes[mode]))]))
    say(f"{name} texts: {text_line(figures['texts'])}")
    if figures["verdict"] is not None:
        v = figures["verdict"]
        say(
            f"{name} verdict: accuracy {percent(v['accuracy'])}, precision {percent(v['precision'])}, recall "
            f"{percent(v['recall'])} %, unparseable {v['unparseable']}; refinement wrong→right "
            f"{figures['wrong_to_right']}, right→wrong {figures['right_to_wrong']}",
        )


@app.command()
def chat(
    config: ConfigFile,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Model to talk to; default: the config's.")] = None,
    refine: Annotated[bool, typer.Option("--refine/--direct", help="With self-refinement, showing it.")] = True,
    prompt: Annotated[str | None, typer.Option(help="Answer this one prompt and end.")] = None,
) -> None:
    """Ask a model; by default it judges and refines its answer, and shows the feedback. Ends on an empty line.

    Example:

        selfevo chat configs/quickstart.yaml --model runs/quickstart/checkpoints/0003

        selfevo chat configs/quickstart.yaml --direct --prompt "Mia has 7 shells. Then Mia finds 5. How many now?"
    """
    from selfevo_jax.config import load_config

    changes = list(overrides or []) + ([f"model.source={model}"] if model else [])
    loaded = load_config(config, changes)
    from selfevo_jax.data import PromptRow
    from selfevo_jax.rounds.judging import judged_aloud
    from selfevo_jax.rounds.workbench import open_workbench

    bench = open_workbench(loaded)
    params = bench.engine.place(bench.base_params())
    if refine and bench.batch is not None and bench.batch.reads_labels:
        say(f"The judge {bench.batch.name} reads labels, which a chat has none of: only feedback is shown.", "dim")
    turn = 0
    turns = max(1, loaded.rounds.turns)
    for text in [prompt] if prompt is not None else _asked():
        turn += 1
        row = PromptRow(str(turn), text)
        chain = bench.chain(row, bench.stages(greedy=True), round=0, judge=refine, turns=turns)
        bench.engine.run(params, [chain])
        done = chain.result
        if done is None or done.error is not None:
            say(f"not answered: {done.error if done else text}", "red")
            continue
        for index, candidate in enumerate(done.candidates):
            name = "answer" if index == 0 else "refined"
            say(f"{name}: {candidate.text.strip()}")
            if candidate.feedback is not None:
                for line in candidate.feedback.lines():
                    say(f"  {line}", "dim")
        if len(done.candidates) > 1:
            say(f"final: {done.candidates[done.chosen].text.strip()}")
        if refine:
            for line in judged_aloud(bench, params, done):
                say(f"  {line}", "dim")


def _asked() -> Iterator[str]:
    """Prompts from the terminal or a pipe, up to an empty line or the end."""
    while True:
        try:
            text = console.input("[bold]you:[/bold] ") if sys.stdin.isatty() else input()
        except EOFError:
            return
        if not text.strip():
            return
        yield text
