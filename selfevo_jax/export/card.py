"""The model card of an export: what the model is, how it was trained and measured, how it is prompted and served."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfevo_jax import __version__
from selfevo_jax.checkpoint import Adapters, ModelSource, is_complete, read_metadata
from selfevo_jax.checkpoint.from_hub import HUB
from selfevo_jax.export.form import Form
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.model import param_count
from selfevo_jax.report import MODES, OpenRow, Row, beside, estimate, percent, summarize
from selfevo_jax.run.chosen import Chosen
from selfevo_jax.text import PromptFormat


@dataclass(frozen=True)
class Checked:
    """What an export was compared with."""

    texts: int
    """Built-in ones."""
    own: int
    """Of the run."""
    apart: float
    """The largest difference of a logit between what was read back and what was written."""
    rounding: float
    """The largest difference of a logit by the rounding of the weights."""


def card(
    chosen: Chosen,
    model: ModelSource,
    form: Form,
    format: PromptFormat | None,
    name: str,
    checked: Checked,
    adapters: Adapters | None,
) -> str:
    """The text of README.md."""
    parts = [
        _front(chosen, adapters),
        f"# {name}",
        _what(chosen, adapters),
        _facts(chosen, model, form, format),
        *_figures(chosen),
        "## Prompts",
        *_prompts(model, format),
        "## Serve it",
        *_serving(name, form, format, adapters),
        "## How it was checked",
        f"Written by selfevo_jax {__version__} and opened again: {checked.texts} built-in texts and "
        f"{checked.own} of the run have the same token ids both ways, and the logits of three prompts differ by "
        f"{checked.apart:.2g} at most from those of the weights as they were rounded. Rounding to {form.dtype} has "
        f"moved a logit by {checked.rounding:.2g} at most.",
    ]
    return "\n\n".join(parts) + "\n"


def _front(chosen: Chosen, adapters: Adapters | None) -> str:
    lines = ["---", f"library_name: {'transformers' if adapters is None else 'peft'}", "pipeline_tag: text-generation"]
    base = _base(chosen)
    if base.startswith(HUB):
        lines.append(f"base_model: {base.removeprefix(HUB).partition('@')[0]}")
    return "\n".join([*lines, "tags: [self-evolution, selfevo_jax]", "---"])


def _base(chosen: Chosen) -> str:
    """The model that training began with, without the folders that it lies in here."""
    source = chosen.source if chosen.config is None else chosen.config.model.source
    return source if ":" in source else Path(source).name


def _what(chosen: Chosen, adapters: Adapters | None) -> str:
    what = "Low-rank adapters" if adapters is not None else "A causal language model"
    if chosen.run is None or chosen.name == "base":
        return f"{what}, {_code(_base(chosen))}."
    return f"{what}: {chosen.shown} of the run {_code(chosen.run.root.name)}, {_made(chosen)}."


def _made(chosen: Chosen) -> str:
    """From what a checkpoint of a run was made, and how."""
    base, paper = _code(_base(chosen)), "[arXiv 2310.00533](https://arxiv.org/abs/2310.00533)"
    config = chosen.config
    if config is None or chosen.name == "meta":
        return f"made from {base} before its rounds (M_meta of SELF, {paper})"
    if config.method.name == SelfRefine.name and config.rounds.judges and config.judge.batch is None:
        return f"trained from {base} by its own language feedback (SELF, {paper})"
    batch = "" if config.judge.batch is None else f" with the judge {config.judge.batch.by}"
    return f"trained from {base} in rounds of the method {config.method.name}{batch}"


def _facts(chosen: Chosen, model: ModelSource, form: Form, format: PromptFormat | None) -> str:
    texts = {id: text for text, id in model.tokenizer.controls.items()}
    ends = model.tokenizer.eos_ids if format is None else format.stop_ids
    rows = {"parameters": f"{param_count(model.config):,} in {form.dtype}"}
    if (config := chosen.config) is not None and chosen.name != "base":
        objective = config.meta.objective if chosen.name == "meta" else config.learn.objective
        rows |= {
            "method": f"{config.method.name}, objective {objective.name}, judge {config.judge.kind}",
            "rounds": f"{config.rounds.variant}, {config.rounds.number} in all, seed {config.seed}",
        }
    if chosen.run is not None and is_complete(path := chosen.run.checkpoint(chosen.name or "")):
        rows |= _training(read_metadata(path).get("training") or {})
    rows["texts end by"] = ", ".join(f"{_code(texts.get(id, ''))} ({id})" for id in ends) or "no token"
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows.items())])


def _training(record: dict[str, Any]) -> dict[str, str]:
    """The last fine-tuning of a checkpoint."""
    if not record.get("steps"):
        return {}
    pools = ", ".join(f"{count} of {pool}" for pool, count in record.get("examples", {}).items())
    losses = f"loss {record['loss_first']:.3f} to {record['loss_last']:.3f}"
    return {"last fine-tuning": f"{record['steps']} steps on {pools or 'no examples'}; {losses}"}


def _figures(chosen: Chosen) -> Iterator[str]:
    """What was measured of this checkpoint, and of those before it that it is compared with."""
    if chosen.run is None:
        return
    summary = summarize(chosen.run)
    rows = [row for row in summary.rows if row.checkpoint in ("base", "meta", chosen.shown) and row.direct is not None]
    if rows:
        yield "## Figures"
        yield "Percent right with Wilson's 95 % interval, greedy answers; gains against meta on the same rows."
        yield _table(["set", "checkpoint", "rows", *MODES, "gain"], [_measured(row) for row in rows])
    judged = [row for row in summary.open_ended if row.checkpoint == chosen.shown]
    if judged:
        yield "On open-ended prompts, as the run's judge says:"
        yield _table(["set", "judge", "win rate in %", "mark"], [_judged(row) for row in judged])
    if summary.labels is not None:
        yield f"The rounds read labels, by {summary.labels}: a baseline, no self-improvement."


def _measured(row: Row) -> list[str]:
    modes: list[dict[str, Any] | None] = [getattr(row, mode) for mode in MODES]
    shown = ["; ".join([percent(mode), *([] if mode is None else beside(mode))]) for mode in modes]
    gain = row.gain
    told = "-" if gain is None else f"{100 * gain['gain']:+.1f} ± {100 * gain['stderr']:.1f}"
    return [row.set, row.checkpoint, str((row.direct or {}).get("n", "-")), *shown, told]


def _judged(row: OpenRow) -> list[str]:
    found = row.figures["win_rate"]
    rate = "-" if found is None else estimate(found["rate"], 100)
    return [row.set, str(row.figures["judge"]), rate, estimate(row.figures["rating"], digits=2)]


def _prompts(model: ModelSource, format: PromptFormat | None) -> Iterator[str]:
    if format is None:
        yield "The tokenizer names no token that ends texts, and the run's format is not known."
        return
    section = format.config
    if section.kind == "plain":
        system = "" if section.system is None else section.system + "\n"
        yield "A prompt is written as below, the question in place of `{prompt}`; there is no chat template to it."
        yield _fenced(f"{system}{section.respond}")
    else:
        yield "The model's own chat template (`chat_template.jinja`)."
        if section.respond != "{prompt}":
            yield f"The user's turn is written as below.\n\n{_fenced(str(section.respond))}"
        if section.system is not None:
            yield f"The system's text:\n\n{_fenced(section.system)}"
        if section.template:
            yield f"Settings of the template: {_code(str(section.template))}."
    if format.stop_strings:
        stops = ", ".join(_code(repr(text)) for text in format.stop_strings)
        yield f"An answer also ends at one of these texts: {stops}."


def _serving(name: str, form: Form, format: PromptFormat | None, adapters: Adapters | None) -> Iterator[str]:
    ask, here = "the question, written as above", shlex.quote(f"./{name}")
    if adapters is None:
        yield f"```\nvllm serve {here} --dtype {form.dtype}\n```"
    else:
        yield (
            f"```\nvllm serve BASE --dtype {form.dtype} --enable-lora --max-lora-rank {adapters.lora.rank} "
            f"--lora-modules {shlex.quote(f'{name}=./{name}')}\n```\n\nBASE is what `adapter_config.json` names, or "
            f"`./{name}/base`."
        )
    asked: dict[str, Any] = {"prompt": ask}
    if chat := format is not None and format.config.kind == "chat":
        asked = {"messages": [{"role": "user", "content": ask}]}
    body = {"model": name if adapters is not None else f"./{name}", **asked, "temperature": 0, "max_tokens": 256}
    url = f"http://127.0.0.1:8000/v1/{'chat/' if chat else ''}completions"
    yield (
        f"```\ncurl {url} -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}\n```"
    )
    if form.gguf:
        yield f"```\nllama-server -m {shlex.quote(f'{name}.gguf')}\n```"


def _fenced(text: str) -> str:
    """A block of code, whatever is in it."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{text}\n{fence}"


def _code(text: str) -> str:
    """The same within a line."""
    fence = "`" * (_longest_run(text) + 1)
    return f"`{text}`" if fence == "`" else f"{fence} {text} {fence}"


def _longest_run(text: str) -> int:
    """Backticks side by side."""
    return max(map(len, re.findall("`+", text)), default=0)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
