"""The command that compares two sides on open-ended prompts, by a judge."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfevo_jax.cli.common import (
    ConfigFile,
    Coordinator,
    Force,
    Overrides,
    Processes,
    ProcessId,
    StartLimit,
    app,
    check_output,
    console,
    say,
    together,
)
from selfevo_jax.errors import ConfigError

if TYPE_CHECKING:
    from selfevo_jax.config import Config
    from selfevo_jax.judges import EndpointSection, Pair
    from selfevo_jax.rounds.winrate import Contest, Said

SELF = "self"
_UNFINISHED = ".unfinished"


@app.command("winrate")
def winrate_command(
    config: ConfigFile,
    against: Annotated[
        str, typer.Option(help="The other side: a model, or a .jsonl or .json file of answers.", show_default=False)
    ],
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="The model, or its answers; default: the config's.")] = None,
    judge: Annotated[str, typer.Option(help="self (the model), another model, or the URL of a server.")] = SELF,
    judge_model: Annotated[str | None, typer.Option(help="With a URL: the model's name there.")] = None,
    judge_key: Annotated[str, typer.Option(help="With a URL: the variable that holds the key.")] = "OPENAI_API_KEY",
    judge_concurrency: Annotated[int, typer.Option(help="With a URL: questions side by side at most.")] = 16,
    brief: Annotated[
        bool, typer.Option("--brief", help="A judging model gives its verdict at once, without an explanation.")
    ] = False,
    prompts: Annotated[str, typer.Option(help="JSONL, or builtin:NAME.")] = "builtin:vicuna/questions",
    limit: Annotated[int | None, typer.Option(help="Use this many prompts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write every text and verdict here, as JSONL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    force: Force = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    start_limit: StartLimit = 300.0,
) -> None:
    """Win rate of a model against another side on open-ended prompts, by a judge that is asked in both orders.

    Answers are greedy. Small models seldom keep to the form of the verdict: see --brief. With --out a call that was
    broken off goes on where it was. The key of a server is read from the environment alone.

    Examples:

        selfevo winrate mine.yaml --model runs/mine/checkpoints/0003 --against runs/mine/checkpoints/meta

        selfevo winrate mine.yaml --against answers.jsonl --judge http://127.0.0.1:8000/v1 --judge-model big
    """
    from selfevo_jax.config import load_config
    from selfevo_jax.config.secrets import refuse_secrets

    refuse_secrets({"--judge": judge, "--against": against, "--model": model, "--prompts": prompts})
    loaded = load_config(config, overrides or [])
    server = _server(judge, judge_model, judge_key, judge_concurrency)
    with together(coordinator, processes, process_id, start_limit, lambda: loaded.run_dir):
        from selfevo_jax import hosts

        if out is not None:
            hosts.agree("looking at the output", lambda: check_output(out, force))
        pairs = _compare(loaded, model or loaded.model.source, against, judge, server, brief, prompts, limit, out)
        if hosts.is_writer():
            judged_by = judge if server is None else f"{server.model} at {server.url}"
            _show(pairs, [model or loaded.model.source, against, judged_by, prompts], as_json)
        if out is not None:
            say(f"Every text is in {out}")


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


def _is_file(side: str) -> bool:
    return side.endswith((".jsonl", ".json"))


def _compare(
    config: Config,
    model: str,
    against: str,
    judge: str,
    server: EndpointSection | None,
    brief: bool,
    prompts: str,
    limit: int | None,
    out: Path | None,
) -> list[Pair]:
    """The pairs, judged; with `out` each of their texts is kept on the way."""
    from selfevo_jax import hosts, notice
    from selfevo_jax.checkpoint import model_checksum
    from selfevo_jax.data import PromptRow, jsonl_lines, read_prompts, source_checksum
    from selfevo_jax.data.given import read_answers
    from selfevo_jax.judges import mt_bench_pair
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds.winrate import Contest, Kept, journal_of, to_row
    from selfevo_jax.rounds.workbench import select_platform
    from selfevo_jax.run.identity import identity
    from selfevo_jax.storage import storage_of

    reporter = Reporter(console, quiet=console.quiet)
    read = hosts.agree("reading the prompts", lambda: [asdict(row) for row in read_prompts(prompts, limit=limit)])
    rows = [PromptRow(**row) for row in read]
    if judge == SELF and _is_file(model):
        raise ConfigError(f"--judge self: {model} is a file of answers, which cannot judge; name a judge")
    if brief and server is not None:
        raise ConfigError(f"--brief: only for a model that is sampled here, and {judge} is a server; leave it out")
    judging = model if judge == SELF else judge
    files = [side for side in (model, against) if _is_file(side)]
    given = hosts.agree("reading the answers", lambda: {side: read_answers(side, rows) for side in files})
    select_platform(config.platform)
    unfinished = None if out is None else out.with_name(out.name + _UNFINISHED)

    def belongs() -> str:
        asked = judging if server is None else f"{server.url} {server.model}"
        names = {"model": model, "against": against, "judge": asked, "limit": str(limit), "brief": str(brief)}
        sums = {file: source_checksum(file) for file in (prompts, *files)}
        used = {model, against, *([judging] if server is None else [])} - given.keys()
        models = {source: model_checksum(source) for source in sorted(used)}
        return identity(config, {**names, **sums, **models, "pair": str(mt_bench_pair())})

    mark = hosts.agree("checksums", belongs) if unfinished is not None else ""
    with notice.heeded(), journal_of(unfinished, mark) as journal:
        kept = Kept(journal)
        if len(kept):
            reporter.line(f"{unfinished}: going on; {len(kept)} texts of an earlier call are there")
        contest = Contest(config, rows, mt_bench_pair(), kept, reporter, brief)
        # the judge's model last, so that it is loaded once where it is a side's too
        sides = (against, model) if judging != against else (model, against)
        texts = {side: _answers(contest, side, given) for side in dict.fromkeys(sides)}
        if server is not None:
            pairs = contest.judged_by_endpoint(server, texts[model], texts[against])
        else:
            pairs = contest.judged_by_model(judging, texts[model], texts[against])
    if out is not None and unfinished is not None and hosts.is_writer():
        storage_of(out).write(out, b"".join(jsonl_lines(map(to_row, pairs))))
        unfinished.unlink(missing_ok=True)
    return pairs


def _answers(contest: Contest, side: str, given: dict[str, dict[str, str]]) -> dict[str, Said]:
    from selfevo_jax.rounds.winrate import given as as_given

    return as_given(given[side]) if side in given else contest.answers(f"answer {side}", side)


def _show(pairs: list[Pair], names: list[str], as_json: bool) -> None:
    from selfevo_jax.evaluate import win_rate
    from selfevo_jax.report import WIDTH
    from selfevo_jax.report.winrate import LEGEND, winrate_lines

    found = win_rate(pairs)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    model, against, judge, prompts = names
    say(f"\n{model} against {against}")
    say(f"{len(pairs)} prompts of {prompts}, judge: {'the model itself' if judge == SELF else judge}\n")
    for line in winrate_lines(found):
        say(line)
    say("\n" + textwrap.fill(LEGEND, WIDTH), "dim")
