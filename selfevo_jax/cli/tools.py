"""Commands around runs: import, meta-data, plan, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfevo_jax import __version__
from selfevo_jax.cli.common import (
    ConfigFile,
    Force,
    Overrides,
    alone_at,
    app,
    check_folder,
    check_output,
    console,
    finite,
    make_room,
    say,
)
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.cli.targets import model_and_tokenizer
from selfevo_jax.errors import ConfigError
from selfevo_jax.progress import counted

if TYPE_CHECKING:
    from selfevo_jax.config import Config


@app.command("import")
@with_hosts
def import_command(
    source: Annotated[
        str, typer.Argument(help="HF directory, .gguf, package:NAME, RUN@ROUND, ...", show_default=False)
    ],
    out: Annotated[str, typer.Argument(help="New directory for the checkpoint.", show_default=False)],
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer, where none comes with the model.")] = None,
    force: Force = False,
    *,
    group: Hosts,
) -> None:
    """Convert a model to a checkpoint of ours (Orbax, with its tokenizer).

    A folder that is not empty is refused; with `--force` it is moved to a free name beside it first.

    Example:

        selfevo import ./SmolLM2-135M-Instruct models/smollm2
    """
    from selfevo_jax.storage import place

    folder = place(out)
    with group.together(lambda: folder.parent):
        _import(*model_and_tokenizer(source, tokenizer), folder, force)


def _import(source: str, tokenizer: str | None, out: Path, force: bool) -> None:
    import jax.numpy as jnp

    from selfevo_jax import hosts
    from selfevo_jax.checkpoint import open_model, save_model
    from selfevo_jax.model import param_count, param_shardings, require_finite
    from selfevo_jax.run.sources import require_unchanged
    from selfevo_jax.sharding import TRAIN_RULES, make_mesh

    with alone_at(out, lambda: check_folder(out, source, force)):
        require_unchanged(source)
        found = open_model(source, tokenizer)
        layout = param_shardings(found.config, make_mesh(), TRAIN_RULES)
        params = require_finite(found.load(layout, jnp.float32), found.origin)
        if (moved := hosts.agree("making room", lambda: make_room(out))) is not None:
            say(f"{out}: what was there is now in {moved}")
        save_model(out, params, found.config, found.tokenizer.files(), {"origin": found.origin})
    say(f"{out}: {param_count(found.config):,} parameters from {found.origin}")


@app.command("meta-data")
def meta_data(
    solutions: Annotated[
        str, typer.Argument(help="Rows of question and worked answer: a file, builtin: or hf:.", show_default=False)
    ],
    out: Annotated[str, typer.Argument(help="JSONL to write, here or on gs://.", show_default=False)],
    per_row: Annotated[int, typer.Option(help="Rows of D_meta for each question.")] = 1,
    right_share: Annotated[
        float, typer.Option(help="Share of rows with a right response.", min=0, max=1, callback=finite)
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of steps, mistakes and words.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Rows at most.")] = None,
    force: Force = False,
) -> None:
    """Build D_meta from worked solutions: one planted mistake a wrong row, feedback in words, a verdict.

    Example:

        selfevo meta-data builtin:gsm8k/train meta.jsonl --limit 200
    """
    from selfevo_jax.data import meta_balance, read_qa, rows_file, write_jsonl
    from selfevo_jax.tasks.solutions import build_meta_rows

    file = rows_file(out)
    check_output(file, force, [solutions])
    questions = read_qa(solutions, tell=lambda line: say(f"warning: {line}", "yellow"))
    rows = build_meta_rows(questions, seed, per_row, right_share=right_share, limit=limit)
    write_jsonl(file, rows)
    balance = meta_balance(rows)
    kinds = ", ".join(f"{kind} {count}" for kind, count in balance.kinds.items())
    say(f"{out}: {counted(balance.rows, 'row')}, {balance.right} right, {balance.wrong} wrong ({kinds})")
    unused = len(questions) - len({row.prompt for row in rows})
    if unused and len(rows) != limit:
        say(f"{unused} of {len(questions)} solutions gave no row: no <<expr=value>> marks, or no mistake fits")
    for line in balance.warnings:
        say(f"warning: {line}", "yellow")


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
    from selfevo_jax.plan.chips import prepare_compiler
    from selfevo_jax.plan.counted import prepare_devices

    if topology:
        prepare_compiler()
    else:
        prepare_devices(devices)
    from selfevo_jax.config import load_config  # imports jax, which reads what was prepared

    loaded = load_config(config, overrides or [])
    if not topology:
        _count(loaded, as_json)
        return
    from selfevo_jax.plan.command import run

    run(loaded, topology, console, only or (), search, most, prompt_tokens, option or (), as_json)


def _count(config: Config, as_json: bool) -> None:
    """Bytes by count alone, for chips that there is no compiler for."""
    from selfevo_jax.plan.counted import count as counted

    found = counted(config)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        for line in found.lines():
            say(line)


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

    from selfevo_jax.accelerators import overlooked
    from selfevo_jax.native.build import told
    from selfevo_jax.rounds.workbench import select_platform
    from selfevo_jax.sharding import make_mesh, sizes_of

    select_platform(platform)
    say(f"selfevo_jax {__version__}, Python {machine.python_version()}, {machine.platform()}")
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "sentencepiece", "tokenizers"):
        say(f"  {name} {importlib.metadata.version(name)}")
    for name, extra in (
        ("gguf", "gguf"),
        ("libtpu", "tpu"),
        ("huggingface-hub", "hub"),
        ("gcsfs", "gcs"),
        ("openai", "annotate"),
        ("lm-eval", "eval"),
    ):
        try:
            say(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            say(f"  {name}: not installed (extra '{extra}')")
    devices = jax.devices()
    say(f"platform {devices[0].platform}: {len(devices)} x {devices[0].device_kind}")
    if devices[0].platform == "cpu":
        say(f"kernels in C: {told()}")
    if platform == "auto" and (line := overlooked(devices[0].platform)) is not None:
        say(f"warning: {line}", "yellow")
    say(f"mesh {sizes_of(make_mesh(data, fsdp, tensor))}")
