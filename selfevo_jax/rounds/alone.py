"""A model without a run and without a config: how it is asked, and how long its texts may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfevo_jax.checkpoint import open_model
from selfevo_jax.config import Config, override, parse_config, set_key
from selfevo_jax.text import fitting_format

MOST_TOKENS = 2048
"""Of a slot; a model with fewer positions has those."""
RESPONSE, FEEDBACK = 512, 256
"""Tokens at most; a quarter and an eighth of a slot where that is fewer."""


def config_alone(source: str, overrides: Sequence[str] = ()) -> Config:
    """A config for a model alone: its chat template where it has one that can be used, and no rounds. `key=value`
    overrides come last, so that they may name another format, a tokenizer, or evaluation sets.

    Raises ModelError where there is no such model.
    """
    given = [override(text) for text in overrides]
    tokenizer = dict(given).get("model.tokenizer")
    found = open_model(source, None if tokenizer is None else str(tokenizer))
    room = min(MOST_TOKENS, found.config.positions)
    answer = {"max_new_tokens": min(RESPONSE, room // 4)}
    tree: dict[str, Any] = {
        "run_dir": ".",
        "model": {"source": source},
        "data": {"prompts": "builtin:vicuna/questions"},
        "sampling": {
            "cache_length": room,
            "respond": answer,
            "feedback": {"max_new_tokens": min(FEEDBACK, room // 8)},
            "refine": answer,
        },
        "meta": {"steps": 0, "length": room},
        "learn": {"length": room},
        "rounds": {"number": 0},
    }
    if not any(key in ("format", "format.kind") for key, _ in given):
        tree["format"] = {"kind": fitting_format(found.tokenizer)[0].kind}
    for key, value in given:
        set_key(tree, key, value)
    return parse_config(tree, source)
