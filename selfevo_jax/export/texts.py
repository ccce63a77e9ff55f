"""Texts that an export is checked with: of the run, where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.run.chosen import Chosen
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.names import EVALUATIONS, ROUNDS
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.text import CHECKED_TEXTS, FormatSection, PromptFormat
from selfevo_jax.text.tokenizer import BaseTokenizer

_KEYS = ("prompt", "text", "response", "feedback", "refinement", "answer")
_PROMPTS = ("Mia has 7 shells. Then Mia finds 5.", "What is the capital of France?", "def add(a, b):\n    return")
PROBES, PROBE_TOKENS = 3, 256
"""Prompts whose logits are compared, and tokens of one at most."""


@dataclass(frozen=True)
class Said:
    """What a run has written; nothing without a run."""

    texts: Sequence[str] = ()
    """Up to CHECKED_TEXTS different ones, from all of it."""
    prompts: Sequence[str] = ()
    """The first PROBES different ones."""


def said(chosen: Chosen) -> Said:
    """Reads the rows of a run once, and keeps no more of them than their texts."""
    if chosen.run is None:
        return Said()
    texts: dict[str, None] = {}
    prompts: dict[str, None] = {}
    for row in _rows(chosen.run):
        texts |= dict.fromkeys(_texts(row))
        if row.get("prompt") and len(prompts) < PROBES:
            prompts[str(row["prompt"])] = None
    found = list(texts)
    step = max(1, len(found) / CHECKED_TEXTS)
    return Said([found[int(i * step)] for i in range(min(CHECKED_TEXTS, len(found)))], list(prompts))


def _rows(run: RunDir) -> Iterator[dict[str, Any]]:
    """Of D_meta, of the rounds' finished chains, and of the answers that were measured: of each the newest file."""
    # rows of a round that is being sampled, or was killed so, may end in the middle of one
    sampled = sorted((run.root / ROUNDS).glob("*/rollouts/manifest.json"))
    measured = sorted((run.root / EVALUATIONS).glob("*/*.jsonl"))
    files = [run.meta("meta_skill.jsonl"), *(of.with_name("part-00000.jsonl") for of in sampled[-1:]), *measured[-1:]]
    for file in files:
        if file.exists():
            yield from read_rows(file)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in _KEYS and isinstance(item, str) and item:
                yield item
            else:
                yield from _texts(item)


def format_of(chosen: Chosen, tokenizer: BaseTokenizer) -> PromptFormat | None:
    """How prompts are written for a model: as in its run, else by its own template; None where neither is known."""
    section = FormatSection() if chosen.config is None else chosen.config.format
    if chosen.config is None and tokenizer.chat_template is not None:
        section = FormatSection(kind="chat")
    try:
        return PromptFormat(section, tokenizer)
    except (ConfigError, ModelError):
        if chosen.config is not None:
            raise
        return None


def probes(asked: Sequence[str], tokenizer: BaseTokenizer, format: PromptFormat | None) -> list[list[int]]:
    """Token ids of the prompts whose logits are compared: those of a run, and built-in ones where it has too few."""
    prompts = [*asked, *_PROMPTS][:PROBES]
    begins = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    made = [begins + tokenizer.encode(text) if format is None else format.respond(text) for text in prompts]
    return [ids[:PROBE_TOKENS] for ids in made]
