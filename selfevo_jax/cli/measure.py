"""The command that measures a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfevo_jax.cli.common import Force, Overrides, alone_at, app, check_output, console, say
from selfevo_jax.cli.harness import harness_command
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.cli.targets import Target, target_config
from selfevo_jax.errors import ConfigError

if TYPE_CHECKING:
    from selfevo_jax.config import Config

ORDINARY = "ordinary answers"
"""Where their figures are beside those of the sets, none of which has white space in its name."""


@app.command("eval")
@with_hosts
def evaluate_command(
    target: Target,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Another model, RUN or RUN@ROUND; default: its own.")] = None,
    out: Annotated[str | None, typer.Option(help="Also write the figures as JSON, and the texts beside it.")] = None,
    force: Force = False,
    harness: Annotated[
        str | None, typer.Option(help="Tasks of lm-eval in place of the config's sets: names or YAML files, by commas.")
    ] = None,
    *,
    group: Hosts,
) -> None:
    """Measure a model on the config's evaluation sets, in the modes of `evaluate.modes`, and on `data.ordinary`.

    Of RUN, RUN@ROUND and a checkpoint inside a run the config is the run's own; a model alone is asked by its chat
    template, and wants a set named on the command line.

    With `--out FILE.json` the texts are written too, as FILE-SET.jsonl: prompt, answers, feedback, columns and grades.

    With `--harness` tasks of lm-evaluation-harness (extra `eval`) are answered, direct and refined, and scored by it.
    Each of their contexts is a prompt of the config's format: `format.respond="{prompt}"` asks with the bare text.
    `data.evaluation_rows` limits the rows of a task.

    Example:

        selfevo eval runs/quickstart@3 evaluate.modes=[direct,both]
        selfevo eval configs/quickstart.yaml --model runs/quickstart/checkpoints/meta --out figures.json
        selfevo eval mine.yaml --model runs/mine/checkpoints/0003 --harness gsm8k,my_task.yaml --out harness.json
    """
    with group.together(lambda: target_config(target, overrides, model).run_dir):
        loaded = target_config(target, overrides, model)
        from selfevo_jax.storage import place

        file = None if out is None else place(out)
        if harness is None:
            _evaluate(loaded, target, file, force)
        else:
            harness_command(loaded, harness, file, force)


def _evaluate(loaded: Config, target: str, out: Path | None, force: bool) -> None:
    from selfevo_jax import hosts
    from selfevo_jax.data import jsonl_lines
    from selfevo_jax.progress import Reporter
    from selfevo_jax.report import ordinary_line
    from selfevo_jax.rounds.masters import Masters
    from selfevo_jax.rounds.measure import measure
    from selfevo_jax.rounds.ordinary import Ordinary, ordinary_rows
    from selfevo_jax.rounds.survey import evaluation_phases, fit_lengths
    from selfevo_jax.rounds.workbench import open_workbench
    from selfevo_jax.storage import storage_of
    from selfevo_jax.tasks import open_task

    reporter = Reporter(console, quiet=console.quiet)
    task = open_task(loaded)  # first: its rows are refused before a model is opened
    answers = ordinary_rows(loaded)
    if not task.evaluation() and not answers:
        raise ConfigError(f"{target}: data.evaluation: empty; name a set, such as data.evaluation.gsm8k=FILE")
    texts = {name: out.with_name(f"{out.stem}-{name}.jsonl") for name in task.evaluation()} if out is not None else {}

    def check() -> None:
        for file in (out, *texts.values()) if out is not None else ():
            check_output(file, force, [target, *task.files().values()])

    with alone_at(out, check):
        bench = open_workbench(loaded)
        ordinary = Ordinary.of(answers, bench)
        sets = task.evaluation().values()
        fit_lengths(bench, [phase for of in sets for phase in evaluation_phases(bench, of.rows, 1, votes=of.votes)])
        masters, found = Masters(bench.mesh), {}
        params = bench.engine.place(masters.get(target, bench.base_params))
        masters.rest()
        for name, of in task.evaluation().items():
            found[name], rows = measure(bench, params, of, name, reporter)
            _say_figures(name, found[name])
            if name in texts and hosts.is_writer():
                storage_of(texts[name]).write(texts[name], b"".join(jsonl_lines(rows)))
        if ordinary is not None:
            found[ORDINARY] = ordinary.measure(bench, masters.get(target, bench.base_params), ORDINARY, reporter)
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
