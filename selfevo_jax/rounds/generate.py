"""Answers of a model to a file of prompts: direct, or judged and refined; each kept as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from selfevo_jax import hosts
from selfevo_jax.chains import Rollout, StageParams
from selfevo_jax.checkpoint import model_checksum, open_model
from selfevo_jax.config import Config
from selfevo_jax.data import PromptRow, Tell, read_prompts, source_checksum
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import format_for, open_judge
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.limits import clipped, failed
from selfevo_jax.rounds.survey import Phase, fit_lengths
from selfevo_jax.rounds.texts import journal_of, settings_of
from selfevo_jax.rounds.workbench import Workbench, open_workbench
from selfevo_jax.run.journal import by_id
from selfevo_jax.storage import place
from selfevo_jax.text import PromptFormat

UNFINISHED = ".unfinished"
"""What the name of a file ends in while its rows come."""
_MULTIPLE = 64
"""Of the tokens of a slot."""
Length = Literal["keep", "raise", "fit"]
"""Of `sampling.cache_length`: as it is; at least what the prompts need; exactly that."""


@dataclass(frozen=True)
class Batch:
    """What is asked for."""

    prompts: str
    columns: Mapping[str, str]
    limit: int | None
    samples: int
    """Of each prompt."""
    refined: bool
    temperature: float | None
    """Of all stages. None: greedy where a prompt has one sample, else the config's own."""

    @property
    def greedy(self) -> bool:
        return self.temperature is None and self.samples == 1


def generate(
    config: Config, batch: Batch, out: Path, reporter: Reporter, length: Length = "raise"
) -> list[dict[str, Any]]:
    """A row for each prompt and sample, in the order of the prompts: id, sample, prompt, response, and finish; with
    `refined` also the first response, and what was said of it. A row that could not be run has an `error`.

    Rows come into `out` + UNFINISHED as they end, with a checksum each: the same call goes on from them. A text depends
    on the model, the settings, the seed, the prompt and its id, and the sample's number; in float32 not on the others.

    Args:
      length: what becomes of `sampling.cache_length`, where the model has room.

    Raises DataError for prompts that cannot be used, ConfigError where none of them could be run.
    """
    read = hosts.agree("the prompts", lambda: [asdict(row) for row in _rows(batch, reporter.warn)])
    rows = [PromptRow(**row) for row in read]
    fitted = _fitted(config, rows, batch, length, reporter)
    mark = hosts.agree("checksums", lambda: _belongs(fitted, batch))
    unfinished = place(f"{out}{UNFINISHED}")
    with journal_of(unfinished, mark, reporter) as journal:
        known = hosts.share("rows of an earlier call", journal.rows if journal is not None else [])
        found = {by_id(row): row for row in known}
        wanted = [(row, sample) for row in rows for sample in range(batch.samples)]
        left = [(row, sample) for row, sample in wanted if (row.id, sample) not in found]

        def done(rollout: Rollout) -> None:
            row = as_row(rollout, batch.refined)
            found[by_id(row)] = row
            if journal is not None:
                journal.append(row)

        if left:
            _sample(fitted, rows, left, batch, reporter, done)
    answers = [found[row.id, sample] for row, sample in wanted]
    # those of an earlier call too: the same call says the same
    if (lost := failed([row.get("error") for row in answers], fitted.sampling)) is not None:
        if all(row["finish"] == "error" for row in answers):
            raise ConfigError(f"{batch.prompts}: {lost}. Nothing could be answered")
        reporter.warn(f"{lost}. Their rows have an `error`")
    return answers


def as_row(rollout: Rollout, refined: bool) -> dict[str, Any]:
    """What is written of a chain."""
    last = rollout.candidates[rollout.chosen]
    row: dict[str, Any] = {"id": rollout.id, "sample": rollout.sample, "prompt": rollout.prompt}
    row |= {"response": last.text.strip(), "finish": last.finish}
    if refined:
        first = rollout.candidates[0]
        said = None if first.feedback is None else first.feedback
        row["first"] = first.text.strip()
        row["feedback"] = None if said is None else said.text.strip()
        row["good"] = None if said is None else said.good
    return row if rollout.error is None else row | {"error": rollout.error}


def _rows(batch: Batch, tell: Tell) -> list[PromptRow]:
    return read_prompts(batch.prompts, columns=batch.columns, limit=batch.limit, tell=tell)


def _fitted(config: Config, rows: Sequence[PromptRow], batch: Batch, length: Length, reporter: Reporter) -> Config:
    """The config with as many chains as there are, no more slots than chains (each size of them is a program), and
    slots that hold them."""
    data = config.data.model_copy(update={"prompts_per_round": len(rows), "samples_per_prompt": batch.samples})
    slots = config.sampling.slots
    few = None if slots is None else min(slots, len(rows) * batch.samples)
    config = config.model_copy(update={"data": data, "sampling": config.sampling.model_copy(update={"slots": few})})
    if length == "keep":
        return config
    s = config.sampling
    source = open_model(config.model.source, config.model.tokenizer)
    format = PromptFormat(format_for(open_judge(config.judge), config.format), source.tokenizer)
    prompt = max(len(format.respond(row.prompt)) for row in rows)
    needed = prompt + chain_tokens(config, format, max(1, config.rounds.turns) if batch.refined else None)
    room = min(-(-needed // _MULTIPLE) * _MULTIPLE, source.config.positions)
    if room == s.cache_length or (length == "raise" and room < s.cache_length):
        return config
    if length == "raise":
        reporter.line(
            f"sampling.cache_length is raised from {s.cache_length} to {room}: the longest prompt has {prompt} tokens"
        )
    return config.model_copy(update={"sampling": s.model_copy(update={"cache_length": room})})


def chain_tokens(
    config: Config, format: PromptFormat, turns: int | None, texts: tuple[int, int, int] | None = None
) -> int:
    """Tokens behind the prompt of a chain; `turns` None: of the response alone. `texts`: tokens of response, feedback
    and refinement; None: as long as they may be."""
    s = config.sampling
    limits = s.respond.max_new_tokens, s.feedback.max_new_tokens, s.refine.max_new_tokens
    respond, feedback, refine = texts or limits
    if turns is None:
        return respond
    said = len(format.judge([])) + feedback
    return respond + said + turns * (len(format.refine([])) + refine + said)


def _stages(bench: Workbench, batch: Batch) -> StageParams:
    return bench.stages(greedy=batch.greedy, temperature=batch.temperature)


def _belongs(config: Config, batch: Batch) -> str:
    told = [settings_of(config), config.seed, batch.refined, batch.temperature, batch.greedy, dict(batch.columns)]
    if batch.refined:
        told += [config.judge.model_dump(mode="json"), config.rounds.turns]
    told += [source_checksum(batch.prompts), model_checksum(config.model.source)]
    return json.dumps(told, sort_keys=True)


def _sample(
    config: Config,
    rows: Sequence[PromptRow],
    left: Sequence[tuple[PromptRow, int]],
    batch: Batch,
    reporter: Reporter,
    done: Callable[[Rollout], None],
) -> None:
    bench = open_workbench(config)
    turns = max(1, config.rounds.turns)
    phase = Phase(rows, batch.samples, judge=batch.refined, turns=turns)
    # by all prompts, so that a call that goes on compiles the same
    fit_lengths(bench, [phase])
    stages = _stages(bench, batch)
    chains = [
        bench.chain(row, stages, round=0, sample=sample, judge=batch.refined, turns=turns) for row, sample in left
    ]
    params = bench.engine.place(bench.base_params())
    found = bench.roll_out(params, chains, reporter, "answering", done)
    for line in clipped(found, config.sampling):
        reporter.warn(line)
