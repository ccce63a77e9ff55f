"""Commands that ask a model: chat, generate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from selfevo_jax.cli.common import Force, Overrides, alone_at, app, check_output, console, finite, say
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.cli.targets import Target, length_of, target_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.progress import counted, hanging

if TYPE_CHECKING:
    from selfevo_jax.chains import Candidate


@app.command()
def chat(
    target: Target,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Another model, RUN or RUN@ROUND; default: its own.")] = None,
    refine: Annotated[bool, typer.Option("--refine/--direct", help="With self-refinement, showing it.")] = True,
    prompt: Annotated[str | None, typer.Option(help="Answer this one prompt and end.")] = None,
) -> None:
    """Ask a model; by default it judges and refines its answer, and shows the feedback. Ends on an empty line.

    A run is asked as it asks itself; a model alone by its chat template.

    Example:

        selfevo chat runs/quickstart
        selfevo chat runs/quickstart@meta --direct
        selfevo chat configs/quickstart.yaml --direct --prompt "Mia has 7 shells. Then Mia finds 5. How many now?"
    """
    loaded = target_config(target, overrides, model)
    from selfevo_jax.data import PromptRow
    from selfevo_jax.rounds.judging import judged_aloud
    from selfevo_jax.rounds.workbench import open_workbench

    bench = open_workbench(loaded.model_copy(update={"sampling": loaded.sampling.model_copy(update={"slots": 1})}))
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
            say(f"{name}: {hanging(candidate.text)}")
            for line in feedback_lines(candidate, index):
                say(indent(line, "  "), "dim")
        if len(done.candidates) > 1:
            say(f"final: {hanging(done.candidates[done.chosen].text)}")
        if refine:
            for line in judged_aloud(bench, params, done):
                say(f"  {line}", "dim")


def feedback_lines(candidate: Candidate, index: int) -> list[str]:
    """What is said of a candidate, and that it ended the chain where nothing of it could be read as a verdict."""
    if candidate.feedback is None:
        return []
    unread = f"no verdict could be read; not refined{' further' if index else ''}"
    return [*candidate.feedback.lines(), *([unread] if candidate.feedback.good is None else [])]


def _asked() -> Iterator[str]:
    """Prompts from the terminal or a pipe, up to an empty line or the end. Raises ConfigError for one that is not
    UTF-8."""
    from selfevo_jax.text import utf8

    while True:
        try:
            text = utf8(console.input("[bold]you:[/bold] ") if sys.stdin.isatty() else input())
        except EOFError:
            return
        except ValueError as error:
            raise ConfigError(f"the prompt: {error}") from None
        if not text.strip():
            return
        yield text


@app.command("generate")
@with_hosts
def generate_command(
    target: Target,
    prompts: Annotated[
        str, typer.Option(help="A file of rows (JSONL, JSON, CSV, TSV, Parquet), builtin:NAME, hf: or tfds:.")
    ],
    out: Annotated[str, typer.Option(help="JSONL to write, a row for each prompt and sample; here or on gs://.")],
    overrides: Overrides = None,
    samples: Annotated[int, typer.Option(help="Answers to each prompt.", min=1)] = 1,
    refined: Annotated[bool, typer.Option("--refined/--direct", help="Judge and refine each answer.")] = False,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="0 is greedy, the default for one sample; for more it is the config's.", min=0, callback=finite
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws; default: the config's.", min=0)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of an answer; default: the config's.", min=1)] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="NAME=FIELD, where the file's field has another name: prompt=problem.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use this many prompts.", min=1)] = None,
    force: Force = False,
    *,
    group: Hosts,
) -> None:
    """Answer a file of prompts. Each answer is kept as it comes, in OUT.unfinished; the same call goes on after a kill.

    A run is asked as it asks itself, a model alone by its chat template. A text depends on the model, the settings, the
    seed, the prompt and its id, and the sample; in float32 not on the other prompts, nor on how many go side by side.

    Example:

        selfevo generate runs/mine --prompts prompts.jsonl --out answers.jsonl
        selfevo generate runs/mine@2 --prompts questions.csv --column prompt=question --out answers.jsonl --refined
        selfevo generate ./SmolLM2-135M-Instruct --prompts prompts.jsonl --out drawn.jsonl --samples 4 --max-tokens 200
    """
    from selfevo_jax.data import rows_file
    from selfevo_jax.storage import place

    given = list(overrides or [])
    if max_tokens is not None:
        given += [f"sampling.{stage}.max_new_tokens={max_tokens}" for stage in ("respond", "refine")]
    if seed is not None:
        given.append(f"seed={seed}")
    names = [pair.partition("=")[::2] for pair in column or []]
    if wrong := next((name for name, field in names if not name or not field), None):
        raise ConfigError(f"--column {wrong}: expected NAME=FIELD, such as --column prompt=question")
    file = rows_file(out, "--out")
    with group.together(lambda: file.parent):
        from selfevo_jax import hosts, notice

        def check() -> None:
            check_output(file, force, [prompts])

        hosts.agree("looking at the output", check)
        loaded = target_config(target, given)
        from selfevo_jax.data import jsonl_lines
        from selfevo_jax.progress import Reporter
        from selfevo_jax.rounds.generate import UNFINISHED, Batch, Length, generate
        from selfevo_jax.rounds.texts import discard
        from selfevo_jax.storage import storage_of

        fixed = any(text.startswith(("sampling.cache_length=", "sampling=")) for text in given)
        length: Length = "keep" if fixed else length_of(target)
        batch = Batch(prompts, dict(names), limit, samples, refined, temperature)
        with notice.heeded(), alone_at(file, check):
            rows = generate(loaded, batch, file, Reporter(console, quiet=console.quiet), length)
            if hosts.is_writer():
                storage_of(file).write(file, b"".join(jsonl_lines(rows)))
                discard(place(f"{file}{UNFINISHED}"))
        failed = sum("error" in row for row in rows)
        say(f"{file}: {counted(len(rows), 'row')}" + (f", {failed} of them with an error" if failed else ""))
