"""The command that has a stronger model write D_meta and D_QA."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfevo_jax.cli.common import Force, app, console
from selfevo_jax.cli.several import Hosts, with_hosts
from selfevo_jax.cli.targets import length_of, target_config
from selfevo_jax.errors import ConfigError

if TYPE_CHECKING:
    from selfevo_jax.annotate.section import AnnotateSection, ResponsesSection
    from selfevo_jax.config import Config
    from selfevo_jax.rounds.generate import Length

_NOWHERE = "http://nowhere.invalid/v1"
"""The server of an annotation whose questions go into a file: it is never asked."""


@app.command("annotate")
@with_hosts
def annotate_command(
    prompts: Annotated[
        str,
        typer.Argument(help="Rows with prompts, and perhaps responses: a file, builtin: or hf:.", show_default=False),
    ],
    out: Annotated[str, typer.Argument(help="JSONL to write: D_meta, or D_QA.", show_default=False)],
    endpoint: Annotated[str | None, typer.Option(help="The server, as https://HOST/v1.")] = None,
    model: Annotated[str | None, typer.Option(help="The annotator's name there.")] = None,
    settings: Annotated[Path | None, typer.Option(help="YAML with these settings and more; flags win.")] = None,
    kind: Annotated[str | None, typer.Option(help="meta (D_meta, the default), or qa (D_QA: answers alone).")] = None,
    form: Annotated[str | None, typer.Option(help="What feedback ends in: verdict (the default) or rating.")] = None,
    aspects: Annotated[
        str | None, typer.Option(help="Ratings by UltraFeedback's aspects: all, or names by commas.")
    ] = None,
    steps: Annotated[
        bool | None, typer.Option("--steps/--no-steps", help="Feedback follows the response's steps; with verdicts.")
    ] = None,
    good_rating: Annotated[float | None, typer.Option(help="Least rating that is good; default: the top mark.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Show the annotator the rows' gold `answer`.")] = False,
    base: Annotated[
        str | None, typer.Option(help="Sample the responses here: a model source, RUN, RUN@ROUND, or a YAML config.")
    ] = None,
    response_model: Annotated[str | None, typer.Option(help="Have the responses from this model at a server.")] = None,
    response_url: Annotated[str | None, typer.Option(help="That server; default: the annotator's.")] = None,
    responses: Annotated[int | None, typer.Option(help="Responses to each prompt.")] = None,
    response_temperature: Annotated[float | None, typer.Option(help="Of the responses.")] = None,
    response_tokens: Annotated[int | None, typer.Option(help="Of a response at most.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="NAME=FIELD, where the file's field has another name: response=output.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Rows at most.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Questions side by side at most (16).")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the annotator (0).")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of the annotator's answers (1024).")] = None,
    price_read: Annotated[float | None, typer.Option(help="Of a million tokens read, with --price-written.")] = None,
    price_written: Annotated[float | None, typer.Option(help="Of a million tokens written.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Ask nothing that could cost more in all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be asked and its cost; ask nothing.")] = (
        False
    ),
    write_requests: Annotated[
        str | None, typer.Option(help="Write what is to be asked as a batch file, and ask nothing.")
    ] = None,
    read_results: Annotated[list[str] | None, typer.Option(help="Take answers from a batch's output file.")] = None,
    key_variable: Annotated[str | None, typer.Option(help="Environment variable of the key (OPENAI_API_KEY).")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Ask once more for answers that are there and cannot be used.")
    ] = False,
    force: Force = False,
    *,
    group: Hosts,
) -> None:
    """Make D_meta (or D_QA) with a stronger model behind an OpenAI-compatible server.

    The annotator writes feedback on each response, and then a refinement of each that the feedback calls wrong. The
    responses are in the rows, sampled here (`--base`), or asked of a server (`--response-model`). OUT is what
    `data.meta_skill` (or `data.qa`) takes. Every answer is kept beside it as it comes, in the folder NAME.annotate: the
    same command goes on where it was stopped and asks nothing twice. What cannot be read is counted, kept there, and is
    no row; `--again` asks once more for it. Keys are read from the environment alone.

    Example:

        selfevo annotate prompts.jsonl meta.jsonl --endpoint http://127.0.0.1:8000/v1 --model big --base ./SmolLM2
        selfevo annotate answered.jsonl meta.jsonl --endpoint https://HOST/v1 --model big --aspects all --good-rating 4
        selfevo annotate answered.jsonl meta.jsonl --settings annotate.yaml --max-cost 5 --dry-run
        selfevo annotate answered.jsonl meta.jsonl --model big --write-requests ask.jsonl
        vllm run-batch -i ask.jsonl -o said.jsonl --model big
        selfevo annotate answered.jsonl meta.jsonl --model big --read-results said.jsonl --write-requests ask2.jsonl
    """
    flags = {
        "endpoint.url": endpoint,
        "endpoint.model": model,
        "endpoint.concurrency": concurrency,
        "endpoint.temperature": temperature,
        "endpoint.max_tokens": max_tokens,
        "endpoint.key_variable": key_variable,
        "kind": kind,
        "form": form,
        "aspects": aspects,
        "steps": steps,
        "good_rating": good_rating,
        "reference": reference or None,
        "responses.base": base,
        "responses.model": response_model,
        "responses.url": response_url,
        "responses.number": responses,
        "responses.temperature": response_temperature,
        "responses.max_tokens": response_tokens,
        "columns": _columns(column),
        "limit": limit,
        "price.read": price_read,
        "price.written": price_written,
        "max_cost": max_cost,
    }
    offline = dry_run or write_requests is not None or bool(read_results)
    section = _section(settings, flags, offline)
    from selfevo_jax.annotate.command import Call, run
    from selfevo_jax.progress import Reporter
    from selfevo_jax.storage import place, refuse_input

    live = section.endpoint.url != _NOWHERE and not dry_run and write_requests is None
    sampled = None if section.responses.base is None else functools.partial(_base, section.responses)
    requests = None if write_requests is None else place(write_requests)
    if requests is not None:
        refuse_input(requests, [settings])
    call = Call(section, prompts, out, live, dry_run, requests, tuple(read_results or ()), force, again, sampled)
    with group.together(lambda: call.files.folder):
        run(call, Reporter(console, quiet=console.quiet))


def _base(of: ResponsesSection) -> tuple[Config, Length]:
    changes = [] if of.max_tokens is None else [f"sampling.respond.max_new_tokens={of.max_tokens}"]
    return target_config(str(of.base), changes), length_of(str(of.base))


def _columns(given: list[str] | None) -> dict[str, str] | None:
    pairs = [text.partition("=") for text in given or []]
    if wrong := next((text for text, (ours, _, theirs) in zip(given or [], pairs, strict=True) if not theirs), None):
        raise ConfigError(f"--column {wrong}: expected NAME=FIELD, such as --column response=output")
    return {ours: theirs for ours, _, theirs in pairs} or None


def _section(settings: Path | None, flags: dict[str, Any], offline: bool) -> AnnotateSection:
    """The settings of the file, with the flags that were given in their place."""
    from selfevo_jax.annotate.section import annotation
    from selfevo_jax.config import read_tree

    tree = {} if settings is None else read_tree(settings)
    for key, value in flags.items():
        if value is not None:
            name, _, below = key.partition(".")
            inner, given = tree.get(name), {below: value} if below else value
            own = inner if isinstance(inner, dict) else {}
            tree[name] = {**own, **given} if isinstance(given, dict) else given
    server = tree.get("endpoint") or {}
    if not isinstance(server, dict):
        return annotation(tree, f"{settings}")  # which names the fault
    missing = [flag for flag in ("url", "model") if flag not in server and not (flag == "url" and offline)]
    if missing:
        flag = "--endpoint URL" if missing[0] == "url" else "--model NAME"
        raise ConfigError(f"annotate: who is to be asked? {flag} is missing (or endpoint.{missing[0]} in --settings)")
    tree["endpoint"] = {"url": _NOWHERE, **server}
    return annotation(tree, "annotate" if settings is None else f"{settings}")
