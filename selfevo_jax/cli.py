"""The `selfevo` command."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selfevo_jax import __version__
from selfevo_jax.errors import ConfigError, EmptySelectionError, SelfevoError
from selfevo_jax.progress import plain

if TYPE_CHECKING:
    from selfevo_jax.config import Config
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds import Controller, RunDir

# JAX is imported inside the commands: `--help` answers at once, and `--platform` is set before JAX starts.

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="A language model improves itself by its own language feedback (SELF), on JAX.",
)
console = Console()

GPU_MEMORY = "0.92"
"""The share of a GPU's memory that JAX takes at its start, unless the environment says another; 0.75 alone."""

ConfigFile = Annotated[Path, typer.Argument(help="YAML config; see configs/.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value pairs, such as rounds.number=2.", show_default=False)
]
Coordinator = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of process 0, where several hosts make one run (or JAX_COORDINATOR_ADDRESS)."),
]
Processes = Annotated[int | None, typer.Option(help="How many processes there are (or JAX_NUM_PROCESSES).")]
ProcessId = Annotated[int | None, typer.Option(help="Which one this is, from 0 (or JAX_PROCESS_ID).")]
StartLimit = Annotated[float, typer.Option(help="Seconds until all processes must have started.")]
RunPath = Annotated[str, typer.Argument(help="A run directory, here or on gs://.", show_default=False)]


def _say(text: str, style: str | None = None) -> None:
    """A line as it is: no markup, no colours of its own, and not wrapped where it is piped."""
    console.print(plain(text), style=style, highlight=False, markup=False, soft_wrap=True)


def _version(value: bool) -> None:
    if value:
        _say(f"selfevo_jax {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = (
        False
    ),
) -> None:
    pass


@contextlib.contextmanager
def _together(coordinator: str | None, processes: int | None, process_id: int | None, limit: float) -> Iterator[None]:
    """A command of one process or of several: process 0 speaks for all, and an error in one ends all."""
    from selfevo_jax import hosts

    with hosts.together(coordinator, processes, process_id, limit):
        console.quiet = not hosts.is_writer()
        if hosts.is_active():
            _say(f"{hosts.count()} processes: {', '.join(f'{p.host} (pid {p.pid})' for p in hosts.peers())}")
        yield


@app.command()
def evolve(
    config: ConfigFile,
    overrides: Overrides = None,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    start_limit: StartLimit = 300.0,
) -> None:
    """Run the whole loop: meta-skill learning, then rounds. The same command goes on where a run was stopped.

    On several hosts start it on each, with a run_dir that all share; a TPU pod needs no flags.

    Example:

        selfevo evolve configs/quickstart.yaml seed=2 run_dir=runs/second

        selfevo evolve mine.yaml --coordinator 10.0.0.2:8482 --processes 2 --process-id 0
    """
    with _together(coordinator, processes, process_id, start_limit):
        _evolve(config, overrides or [])


def _evolve(config: Path, overrides: list[str]) -> None:
    from selfevo_jax.config import load_config

    loaded = load_config(config, overrides)
    from selfevo_jax import notice
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds import Controller, RunDir

    reporter = Reporter(console, quiet=console.quiet)
    run = RunDir(loaded.run_dir)
    lies_here = run.has(run.config_file)
    with notice.heeded(), contextlib.closing(Controller(loaded, reporter)) as controller:
        _go_on(run, controller, lies_here, reporter)


def _go_on(run: RunDir, controller: Controller, lies_here: bool, reporter: Reporter) -> None:
    """Makes what is left of a run, and shows what it has come to."""
    from selfevo_jax import hosts
    from selfevo_jax.report import summarize, transcripts

    if lies_here and hosts.agree("whether the run is complete", lambda: summarize(run).complete):
        reporter.line(f"{run.root}: this run is complete. Raise rounds.number to go on, or choose another run_dir.")
    else:
        if lies_here:
            reporter.line(f"{run.root}: going on with the run that lies here.")
        try:
            controller.run()
        except EmptySelectionError:
            _show(run)  # what the run has come to, before it says why it ends
            raise
    _show(run)
    if not hosts.is_writer():
        return
    for name, rows in controller.pools.evaluation().items():
        for found in transcripts(run, name, {row.id: row.answer for row in rows}):
            reporter.line(f"\n{found.text()}")
    reporter.line(f"\nThe run lies in {run.root} (its table: {run.report_file.name})")


def _show(run: RunDir) -> None:
    """The table of a run, also stored beside it; process 0 shows it, the others wait."""
    from selfevo_jax import hosts
    from selfevo_jax.report import LEGEND, summarize, table, verdict_on_run
    from selfevo_jax.rounds.files import write_json

    if hosts.is_writer():
        summary = summarize(run)
        write_json(run.report_file, summary.to_dict())
        console.print()
        (console if console.is_terminal else Console(width=180)).print(table(summary))
        _say(LEGEND, "dim")
        _say(f"\n{verdict_on_run(summary)}")
    hosts.gather("showing the run", None)


@app.command()
def report(run: RunPath, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the table of a run, finished or not.

    Example:

        selfevo report runs/quickstart --json
    """
    from selfevo_jax.report import summarize
    from selfevo_jax.rounds import RunDir

    found = RunDir(run)
    if as_json:
        print(json.dumps(summarize(found).to_dict(), indent=2))
    else:
        _show(found)


@app.command("status")
def status_command(run: RunPath, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Where a run is, who is at it, and what is left, phase by phase. Safe on a live run.

    Example:

        selfevo status runs/quickstart
    """
    from selfevo_jax.report import status
    from selfevo_jax.rounds import RunDir

    found = status(RunDir(run))
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            _say(line)


@app.command("verify")
def verify_command(run: RunPath) -> None:
    """Check that every finished file of a run is what was written: checksums, counts, checkpoints. Safe on a live run.

    Ends with code 2 and the files' names where something has changed.

    Example:

        selfevo verify runs/quickstart
    """
    from selfevo_jax.rounds import RunDir, verify

    found = verify(RunDir(run))
    if found.faults:
        raise SelfevoError(f"{run}: {len(found.faults)} fault(s):\n  " + "\n  ".join(found.faults))
    _say(f"{run}: {found.files} files and {found.checkpoints} checkpoints are as they were written")


@app.command("eval")
def evaluate_command(
    config: ConfigFile,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Model to measure; default: the config's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    start_limit: StartLimit = 300.0,
) -> None:
    """Measure a model on the config's evaluation sets, in the modes of `evaluate.modes`.

    Example:

        selfevo eval configs/quickstart.yaml --model runs/quickstart/checkpoints/0003 evaluate.modes=[direct,both]
    """
    with _together(coordinator, processes, process_id, start_limit):
        _evaluate(config, overrides or [], model, out)


def _evaluate(config: Path, overrides: list[str], model: str | None, out: Path | None) -> None:
    from selfevo_jax.config import load_config

    changes = overrides + ([f"model.source={model}"] if model else [])
    loaded = load_config(config, changes)
    from selfevo_jax import hosts
    from selfevo_jax.progress import Reporter
    from selfevo_jax.report import percent
    from selfevo_jax.rounds.measure import measure
    from selfevo_jax.rounds.pools import open_pools
    from selfevo_jax.rounds.workbench import open_workbench

    reporter = Reporter(console, quiet=console.quiet)
    bench, pools = open_workbench(loaded), open_pools(loaded)
    if not pools.evaluation():
        raise ConfigError(f"{config}: data.evaluation: empty; name a set, such as data.evaluation.gsm8k=FILE")
    params = bench.base_params()
    found = {name: measure(bench, params, rows, name, reporter)[0] for name, rows in pools.evaluation().items()}
    for name, figures in found.items():
        for mode in ("direct", "refined", "consistency", "both"):
            if figures[mode] is not None:
                _say(f"{name} {mode}: {percent(figures[mode])} %")
        if figures["verdict"] is not None:
            v = figures["verdict"]
            _say(
                f"{name} verdict: accuracy {percent(v['accuracy'])}, precision {percent(v['precision'])}, recall "
                f"{percent(v['recall'])} %, unparseable {v['unparseable']}; refinement wrong→right "
                f"{figures['wrong_to_right']}, right→wrong {figures['right_to_wrong']}",
            )
    if out is not None and hosts.is_writer():
        out.write_text(json.dumps(found, indent=2) + "\n")


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
    from selfevo_jax.rounds.workbench import open_workbench

    bench = open_workbench(loaded)
    params = bench.engine.place(bench.base_params())
    turn = 0
    turns = max(1, loaded.rounds.turns)
    for text in [prompt] if prompt is not None else _asked():
        turn += 1
        row = PromptRow(str(turn), text)
        chain = bench.chain(row, bench.stages(greedy=True), round=0, judge=refine, turns=turns)
        bench.engine.run(params, [chain])
        done = chain.rollout
        if done is None or done.error is not None:
            _say(f"not answered: {done.error if done else text}", "red")
            continue
        for index, candidate in enumerate(done.candidates):
            name = "answer" if index == 0 else "refined"
            _say(f"{name}: {candidate.text.strip()}")
            if candidate.feedback is not None:
                _say(f"  feedback: {candidate.feedback.text.strip()}", "dim")
        if len(done.candidates) > 1:
            _say(f"final: {done.candidates[done.chosen].text.strip()}")


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


@app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="HF directory, .gguf, package:NAME, ...", show_default=False)],
    out: Annotated[Path, typer.Argument(help="New directory for the checkpoint.", show_default=False)],
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer, where none lies with the model.")] = None,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    start_limit: StartLimit = 300.0,
) -> None:
    """Convert a model to a checkpoint of ours (Orbax, with its tokenizer).

    Example:

        selfevo import ./SmolLM2-135M-Instruct models/smollm2
    """
    with _together(coordinator, processes, process_id, start_limit):
        _import(source, out, tokenizer)


def _import(source: str, out: Path, tokenizer: str | None) -> None:
    import jax.numpy as jnp

    from selfevo_jax.checkpoint import open_model, save_model
    from selfevo_jax.model import param_count, param_shardings
    from selfevo_jax.sharding import TRAIN_RULES, make_mesh

    found = open_model(source, tokenizer)
    layout = param_shardings(found.config, make_mesh(), TRAIN_RULES)
    params = found.load(layout, jnp.float32)
    save_model(out, params, found.config, found.tokenizer.files(), {"origin": found.origin})
    _say(f"{out}: {param_count(found.config):,} parameters from {found.origin}")


@app.command("meta-data")
def meta_data(
    solutions: Annotated[str, typer.Argument(help="JSONL of question and worked answer.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="JSONL to write.", show_default=False)],
    per_row: Annotated[int, typer.Option(help="Rows of D_meta for each question.")] = 1,
    right_share: Annotated[float, typer.Option(help="Share of rows with a right response.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of steps, mistakes and words.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Rows at most.")] = None,
) -> None:
    """Build D_meta from worked solutions: one planted mistake a wrong row, feedback in words, a verdict.

    Example:

        selfevo meta-data builtin:gsm8k/train meta.jsonl --limit 200
    """
    from selfevo_jax.data import build_meta_rows, meta_balance, read_qa, write_jsonl

    questions = read_qa(solutions)
    rows = build_meta_rows(questions, seed, per_row, right_share=right_share, limit=limit)
    write_jsonl(out, rows)
    balance = meta_balance(rows)
    kinds = ", ".join(f"{kind} {count}" for kind, count in balance.kinds.items())
    _say(f"{out}: {balance.rows} rows, {balance.right} right, {balance.wrong} wrong ({kinds})")
    unused = len(questions) - len({row.prompt for row in rows})
    if unused and len(rows) != limit:
        _say(f"{unused} of {len(questions)} solutions gave no row: no <<expr=value>> marks, or no mistake fits")
    if balance.warning:
        _say(f"warning: {balance.warning}", "yellow")


@app.command("plan")
def plan_command(
    config: ConfigFile,
    overrides: Overrides = None,
    topology: Annotated[
        list[str] | None,
        typer.Option(help="CHIP:AxB or CHIP:AxBxC, with *N for N slices; may be given several times."),
    ] = None,
    devices: Annotated[int, typer.Option(help="Without --topology: devices to count for.", min=1)] = 1,
    search: Annotated[bool, typer.Option("--search", help="Try meshes, rows and remat for the training step.")] = False,
    most: Annotated[int, typer.Option(help="With --search: programs compiled at most.", min=1)] = 12,
    only: Annotated[list[str] | None, typer.Option(help="train, extend or decode; several times for several.")] = None,
    prompt_tokens: Annotated[int | None, typer.Option(help="Tokens of a prompt; assumed by default.", min=1)] = None,
    option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the TPU compiler.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compile a config's programs for TPUs that are not here: memory, costs, and the time of a round.

    The TPU compiler (libtpu) makes the very programs that a run would, and needs no TPU. No weights and no tokenizer
    are read. Nothing is run: times are a roofline over the compiled program. Without a topology (GPUs have no such
    compiler) bytes are counted alone.

    Examples:

        selfevo plan configs/quickstart.yaml --topology v5e:2x2

        selfevo plan mine.yaml --topology v5e:4x4 --topology v5p:2x2x4 --json

        selfevo plan mine.yaml --topology v6e:4x4 --search learn.batch_rows=64

        selfevo plan configs/smollm2_1_7b_h100.yaml --devices 8
    """
    from selfevo_jax.config import load_config

    loaded = load_config(config, overrides or [])
    if not topology:
        _count(loaded, devices, as_json)
        return
    from selfevo_jax.plan.chips import prepare_compiler

    prepare_compiler()  # before anything imports jax
    from selfevo_jax.plan.command import run

    run(loaded, topology, console, only or (), search, most, prompt_tokens, option or (), as_json)


def _count(config: Config, devices: int, as_json: bool) -> None:
    """Bytes by count alone, for chips that there is no compiler for."""
    from selfevo_jax.plan.counted import count, prepare_devices

    prepare_devices(devices)  # before anything imports jax
    found = count(config)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            _say(line)


@app.command()
def doctor(
    platform: Annotated[str, typer.Option(help="auto, cpu, gpu or tpu; refused when absent.")] = "auto",
    mesh: Annotated[str, typer.Option(help="data,fsdp,tensor; -1 is inferred.")] = "-1,1,1",
) -> None:
    """Show versions, devices and the mesh; fails when the platform asked for is absent.

    Example:

        selfevo doctor --platform tpu --mesh -1,4,1
    """
    import importlib.metadata
    import platform as machine

    if platform not in ("auto", "cpu", "gpu", "tpu"):
        raise ConfigError(f"--platform {platform}: expected auto, cpu, gpu or tpu")
    try:
        data, fsdp, tensor = (int(part) for part in mesh.split(","))
    except ValueError:
        raise ConfigError(f"--mesh {mesh}: expected three whole numbers, such as -1,1,1") from None
    import jax

    from selfevo_jax.rounds.workbench import select_platform
    from selfevo_jax.sharding import make_mesh

    select_platform(platform)
    _say(f"selfevo_jax {__version__}, Python {machine.python_version()}, {machine.platform()}")
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "sentencepiece", "tokenizers"):
        _say(f"  {name} {importlib.metadata.version(name)}")
    for name, extra in (
        ("gguf", "gguf"),
        ("libtpu", "tpu"),
        ("huggingface-hub", "hub"),
        ("gcsfs", "gcs"),
        ("matplotlib", "eval"),
    ):
        try:
            _say(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            _say(f"  {name}: not installed (extra '{extra}')")
    devices = jax.devices()
    _say(f"platform {devices[0].platform}: {len(devices)} x {devices[0].device_kind}")
    _say(f"mesh {dict(make_mesh(data, fsdp, tensor).shape)}")


def main() -> None:
    """Entry point: a user's error is one clear line and exit code 2; 75 says that the same command goes on."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", GPU_MEMORY)
    try:
        app()
    except SelfevoError as error:
        Console(stderr=True).print(plain(f"error: {error}"), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
