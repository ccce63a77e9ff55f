"""The command that takes a trained model out."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

import typer

from selfevo_jax.cli.common import Force, alone_at, app, check_folder, console, make_room, say


@app.command("export")
def export_command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="RUN (its newest checkpoint), RUN@ROUND, RUN@meta, RUN@base, or a model source.", show_default=False
        ),
    ],
    out: Annotated[str, typer.Argument(help="New folder, here or on gs://.", show_default=False)],
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the weights that are written.")
    ] = "float32",
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Adapters alone, as a PEFT folder, not merged with their base.")
    ] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="A GGUF file too, for llama.cpp.")] = False,
    force: Force = False,
) -> None:
    """Write a model as a Hugging Face folder, which transformers, vLLM and sglang serve. Computes on the CPU.

    With tokenizer.json, every id that was taught to end texts, the chat template and a model card. It is opened again
    and compared, by ids and logits, before it gets its name: a difference is refused, and nothing is left of it. A
    folder that is not empty is refused; with `--force` it is moved to a free name beside it.

    Example:

        selfevo export runs/quickstart exported/stories --dtype bfloat16
        selfevo export runs/mine@2 gs://bucket/mine-2 --gguf
    """
    from selfevo_jax.errors import ConfigError
    from selfevo_jax.export import Form, export
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds.workbench import select_platform
    from selfevo_jax.run.chosen import choose
    from selfevo_jax.storage import is_remote, place

    if adapters and gguf:
        raise ConfigError("--gguf: of whole models alone; leave --adapters out")
    select_platform("cpu")
    folder, chosen = place(out), choose(checkpoint)
    if not is_remote(folder) and folder.is_symlink():  # the link stays, and what it leads to is written
        folder = folder.resolve()

    def room() -> None:
        if (moved := make_room(folder)) is not None:
            say(f"{folder}: what was there is now in {moved}")

    with alone_at(folder, lambda: check_folder(folder, chosen.source, force)):
        made = export(chosen, folder, Form(dtype, adapters, gguf), Reporter(console, quiet=console.quiet), room)
    checked = made.checked
    say(
        f"{folder}: {chosen.shown} in {dtype}, {len(made.files)} files; opened again: the ids of "
        f"{checked.texts + checked.own} texts are equal, logits within {checked.apart:.2g} (rounding to {dtype} has "
        f"moved one by {checked.rounding:.2g})"
    )
    served = f"with: vllm serve {shlex.quote(str(folder))}" if not adapters else f"as {folder}/README.md says"
    say(f"Serve it {served}")
