"""The command that compares two sides on open-ended prompts, by a judge."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selfevo_jax.cli.common import (
    Force,
    Overrides,
    alone_at,
    app,
    check_output,
    console,
    say,
)
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.cli.targets import Target, source_of, target_config, tokenizers_of
from selfevo_jax.errors import ConfigError
from selfevo_jax.progress import counted

if TYPE_CHECKING:
    from selfevo_jax.config import Config
    from selfevo_jax.evaluate import MeanRating, WinRate
    from selfevo_jax.judges import EndpointSection

SELF = "self"
_UNFINISHED = ".unfinished"


@app.command("winrate")
@with_hosts
def winrate_command(
    target: Target,
    against: Annotated[
        str,
        typer.Option(
            help="The other side: a model, RUN@ROUND, or a file of answers (JSONL, CSV, ...).", show_default=False
        ),
    ],
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="The model, or its answers; default: the config's.")] = None,
    judge: Annotated[str, typer.Option(help="self (the model), another model, RUN@ROUND, or a server's URL.")] = SELF,
    judge_model: Annotated[str | None, typer.Option(help="With a URL: the model's name there.")] = None,
    judge_key_variable: Annotated[
        str, typer.Option(help="With a URL: the environment variable that holds the key.")
    ] = "OPENAI_API_KEY",
    judge_concurrency: Annotated[int, typer.Option(help="With a URL: questions side by side at most.")] = 16,
    brief: Annotated[
        bool, typer.Option("--brief", help="A judging model gives its verdict at once, without an explanation.")
    ] = False,
    ratings: Annotated[bool, typer.Option("--ratings", help="Also ask for a rating of each answer alone.")] = False,
    prompts: Annotated[
        str, typer.Option(help="A file of rows, builtin:NAME or hf:OWNER/NAME/SPLIT.")
    ] = "builtin:vicuna/questions",
    limit: Annotated[int | None, typer.Option(help="Use this many prompts.")] = None,
    out: Annotated[str | None, typer.Option(help="Write every text and verdict here, as JSONL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    force: Force = False,
    *,
    group: Hosts,
) -> None:
    """Win rate of a model against another side on open-ended prompts, by a judge that is asked in both orders.

    Answers are greedy. Small models seldom keep to the form of the verdict: see --brief. With --out a call that was
    broken off goes on where it was. The key of a server is read from the environment alone.

    Examples:

        selfevo winrate runs/mine@3 --against runs/mine@meta
        selfevo winrate mine.yaml --against answers.jsonl --judge http://127.0.0.1:8000/v1 --judge-model big
    """
    from selfevo_jax.config.secrets import refuse_secrets

    refuse_secrets({"--judge": judge, "--against": against, "--model": model, "--prompts": prompts})
    from selfevo_jax.data import rows_file

    loaded = target_config(target, overrides)
    server = _server(judge, judge_model, judge_key_variable, judge_concurrency)
    judging = None if server is not None or judge == SELF else judge
    tokenizers = tokenizers_of(one for one in (model, against, judging) if one is not None)
    model, against = None if model is None else source_of(model), source_of(against)
    judge = judge if judging is None else source_of(judging)
    file = None if out is None else rows_file(out, "--out")
    call = _Call(model or loaded.model.source, against, judge, server, brief, ratings, prompts, limit, file, tokenizers)
    with group.together(lambda: loaded.run_dir):
        from selfevo_jax import hosts

        def check() -> None:
            if file is not None:
                check_output(file, force, [prompts, against, model])

        with alone_at(file, check):
            figures, marks = _compare(loaded, call, Console(stderr=True, quiet=console.quiet) if as_json else console)
        if hosts.is_writer():
            _show(call, figures, marks, as_json)


@dataclass(frozen=True)
class _Call:
    """What the command was asked for."""

    model: str
    against: str
    judge: str
    server: EndpointSection | None
    brief: bool
    ratings: bool
    prompts: str
    limit: int | None
    out: Path | None
    tokenizers: dict[str, str]
    """Of a run's model whose tokenizer does not come with it: source -> tokenizer."""

    @property
    def judging(self) -> str | None:
        """The model that judges; None for a server."""
        return None if self.server is not None else self.model if self.judge == SELF else self.judge

    @property
    def judged_by(self) -> str:
        """The judge in words."""
        if self.server is not None:
            return f"{self.server.model} at {self.server.url}"
        return "the model itself" if self.judge == SELF else self.judge


def _server(judge: str, model: str | None, key: str, concurrency: int) -> EndpointSection | None:
    """The judge as a server; None where it is a model."""
    if "://" not in judge or judge.startswith("gs://"):
        return None
    from pydantic import ValidationError

    from selfevo_jax.judges import EndpointSection

    if model is None:
        raise ConfigError(f"--judge {judge}: a server; name the model to ask there with --judge-model NAME")
    try:
        return EndpointSection(url=judge, model=model, key_variable=key, concurrency=concurrency)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--judge {judge}, {first['loc'][0]}: {first['msg']}") from error


def _compare(config: Config, call: _Call, shown: Console) -> tuple[WinRate, list[MeanRating]]:
    """The figures, and the mean marks of both sides where they are asked for. With `out` texts are kept on the way."""
    from selfevo_jax import hosts, notice
    from selfevo_jax.checkpoint import model_checksum
    from selfevo_jax.data import PromptRow, jsonl_lines, read_prompts, source_checksum
    from selfevo_jax.data.given import read_answers
    from selfevo_jax.evaluate import mean_rating, win_rate
    from selfevo_jax.judges import mt_bench_pair, mt_bench_single
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds import winrate
    from selfevo_jax.rounds.texts import Kept, Models, Said, discard, journal_of, settings_of
    from selfevo_jax.rounds.workbench import select_platform
    from selfevo_jax.section import names_rows
    from selfevo_jax.storage import storage_of

    model, against, judging = call.model, call.against, call.judging
    if judging is not None and names_rows(judging):
        raise ConfigError(f"--judge {call.judge}: {judging} is a file of answers, which cannot judge; name a judge")
    if call.brief and judging is None:
        raise ConfigError(f"--brief: only for a model that is sampled here, and {call.judge} is a server; leave it out")
    reporter = Reporter(shown, quiet=shown.quiet)
    read = hosts.agree(
        "the prompts", lambda: [asdict(row) for row in read_prompts(call.prompts, limit=call.limit, tell=reporter.warn)]
    )
    rows = [PromptRow(**row) for row in read]
    files = [side for side in dict.fromkeys((model, against)) if names_rows(side)]
    given = hosts.agree("the answers", lambda: {side: read_answers(side, rows) for side in files})
    select_platform(config.platform)
    unfinished = None if call.out is None else call.out.with_name(call.out.name + _UNFINISHED)

    def belongs() -> str:
        names = {"model": model, "against": against, "judge": call.judged_by, "limit": str(call.limit)}
        asked = {"brief": str(call.brief), "prompts": f"{mt_bench_pair()} {mt_bench_single()}"}
        sums = {file: source_checksum(file) for file in (call.prompts, *files)}
        used = {source for source in (model, against, judging) if source is not None and source not in given}
        models = {source: model_checksum(source) for source in sorted(used)}
        told = [names, asked, sums, models, settings_of(config)]
        return json.dumps([*told, call.tokenizers] if call.tokenizers else told, sort_keys=True)

    mark = hosts.agree("checksums", belongs) if unfinished is not None else ""
    with notice.heeded(), journal_of(unfinished, mark, reporter) as journal:
        kept = Kept(journal)
        models = Models(config, kept, reporter, lambda bench: winrate.lengths(bench, rows), call.tokenizers)
        # the judge's model last, so that it is loaded once where it is a side's too
        texts: dict[str, dict[str, Said]] = {}
        for side in (against, model) if judging != against else (model, against):
            if side in given:
                texts[side] = {id: Said(text) for id, text in given[side].items()}
            elif side not in texts:
                texts[side] = winrate.answers_of(models, side, f"answer of {side}", rows)
        judge: winrate.TextJudge
        if call.server is not None:
            judge = winrate.ServerJudge(call.server, kept, reporter)
        else:
            judge = winrate.ModelJudge(models, judging or model, call.brief)
        pairs = winrate.compared(judge, rows, texts[model], texts[against])
        marks = [winrate.rated(judge, rows, texts[s], s) for s in (model, against)] if call.ratings else []
    if call.out is not None and unfinished is not None and hosts.is_writer():
        storage_of(call.out).write(call.out, b"".join(jsonl_lines(winrate.to_row(pair, marks) for pair in pairs)))
        discard(unfinished)
    return win_rate(pairs), [mean_rating([one.rating for one in side.values()]) for side in marks]


def _show(call: _Call, figures: WinRate, marks: list[MeanRating], as_json: bool) -> None:
    from selfevo_jax.report import WIDTH
    from selfevo_jax.report.winrate import LEGEND, winrate_lines

    if as_json:
        ratings = dict(zip(("model", "against"), map(asdict, marks), strict=False))
        print(json.dumps(asdict(figures) | ({"ratings": ratings} if marks else {}), indent=2))
        return
    say(f"\n{call.model} against {call.against}")
    say(f"{counted(figures.pairs, 'prompt')} of {call.prompts}, judge: {call.judged_by}\n")
    for line in winrate_lines(figures, marks):
        say(line)
    say("\n" + textwrap.fill(LEGEND, WIDTH), "dim")
    if call.out is not None:
        say(f"Every text is in {call.out}")
