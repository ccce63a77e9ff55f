"""The command that writes a config for a model and files."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from selfevo_jax.cli.checking import show
from selfevo_jax.cli.common import Force, app, check_output, say
from selfevo_jax.cli.targets import model_and_tokenizer
from selfevo_jax.errors import ConfigError, SelfevoError

_NAME = "evolve.yaml"
"""Of the config in a folder."""
_FILES = ("prompts", "evaluation", "meta")


@app.command("init")
def init_command(
    config: Annotated[str, typer.Argument(help="The YAML config to write, or a folder for it.", show_default=False)],
    model: Annotated[str, typer.Option(help="Hugging Face directory, .gguf, hub:OWNER/NAME, RUN@ROUND, ...")],
    prompts: Annotated[str, typer.Option(help="Unlabeled prompts: JSONL, JSON, CSV, TSV, Parquet, hf: or tfds:.")],
    evaluation: Annotated[
        list[str] | None, typer.Option(help="Other prompts to measure by, with gold answers or without.")
    ] = None,
    meta: Annotated[
        str | None, typer.Option(help="D_meta: feedback examples, worked solutions, or problems with equations.")
    ] = None,
    run_dir: Annotated[
        str | None, typer.Option(help="Of the run; default: runs/NAME, NAME that of the config.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer, where none comes with the model.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="FILE.NAME=FIELD, where a field is not recognised: prompts.prompt=problem, meta.good=ok."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure this machine, for the time of a round.")
    ] = True,
    force: Force = False,
) -> None:
    """Write a config for a model and files: their columns, lengths and task are found out, settings fit the model.

    What was recognised is said, and what is missing; each line of the config says what it is for. Nothing is written
    where the files have faults.

    Example:

        selfevo init mine.yaml --model ./SmolLM2-135M-Instruct --prompts prompts.jsonl --evaluation test.jsonl
        selfevo init mine.yaml --model hub:Qwen/Qwen2.5-0.5B-Instruct --prompts prompts.csv --meta meta.jsonl
    """
    from selfevo_jax.config.secrets import refuse_secrets
    from selfevo_jax.storage import place, storage_of

    refuse_secrets({"--model": model, "--prompts": prompts, "--meta": meta, "--evaluation": evaluation})
    file = place(config)
    if file.suffix not in (".yaml", ".yml"):
        file = file / _NAME
    check_output(file, force, [prompts, meta, *(evaluation or ())])
    name = file.stem if file.name != _NAME else (file.parent.name or "mine")
    from selfevo_jax.start.check import check
    from selfevo_jax.start.init import Given, make

    source, tokenizer = model_and_tokenizer(model, tokenizer)
    given = Given(source, prompts, evaluation or (), meta, run_dir or f"runs/{name}", _columns(column or []), tokenizer)
    made = make(given, str(file))
    for line in made.told:
        say(line)
    found = check(made.config, measure)
    if found.faults:
        raise SelfevoError(f"{file} is not written; mend first:\n  " + "\n  ".join(found.faults))
    storage_of(file).write(file, made.text.encode("utf-8"))
    show(found)
    for line in made.missing:
        say(f"missing: {line}", "yellow")
    named = shlex.quote(str(file))
    say(f"{file} is written. Read it, then: selfevo evolve {named} --check, and selfevo evolve {named}")


def _columns(pairs: list[str]) -> dict[str, dict[str, str]]:
    """`FILE.NAME=FIELD` as FILE -> NAME -> FIELD."""
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        where, _, field = pair.partition("=")
        file, _, name = where.partition(".")
        if file not in _FILES or not name or not field:
            raise ConfigError(f"--column {pair}: expected FILE.NAME=FIELD, FILE one of {', '.join(_FILES)}")
        found.setdefault(file, {})[name] = field
    return found
