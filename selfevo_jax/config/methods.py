"""What other keys of a config are where it names one of our methods and leaves them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ON = "continual_mixed"
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "iterative_dpo": {"rounds.variant": ON, "learn.objective.name": "dpo"},
    "raft": {"rounds.turns": 0, "rounds.select": "best_of_n", "rounds.variant": ON},
    "rest_em": {"rounds.turns": 0, "rounds.variant": "restart", "rounds.pool": "last", "rounds.per_prompt": 10},
    "star": {"rounds.turns": 0, "rounds.pool": "last", "judge.batch.kind": "scorer"},
    "ilf": {"rounds.turns": 1, "rounds.pool": "last", "rounds.per_prompt": 1},
    "debate": {"rounds.turns": 0, "judge.batch.kind": "pairwise"},
    "spin": {
        "rounds.turns": 0,
        "rounds.prompts": "answered",
        "rounds.variant": ON,
        "learn.objective.name": "dpo",
    },
    "superhf": {
        "rounds.turns": 0,
        "rounds.select": "best_of_n",
        "rounds.variant": ON,
        "learn.objective.name": "sft_kl",
    },
    "list_preferences": {
        "rounds.turns": 0,
        "rounds.variant": ON,
        "rounds.per_prompt": None,
        "learn.objective.name": "copg",
    },
    "chain_of_hindsight": {"rounds.variant": ON, "learn.objective.name": "hindsight"},
    "sdpo": {
        "rounds.turns": 0,
        "rounds.pool": "last",
        "rounds.variant": ON,
        "learn.objective.name": "self_distillation",
    },
    "grpo": {
        "rounds.turns": 0,
        "rounds.pool": "last",
        "rounds.variant": ON,
        "rounds.per_prompt": None,
        "sampling.respond.temperature": 1.0,
        "learn.objective.name": "grpo",
    },
    "self_rewarding": {
        "rounds.turns": 0,
        "rounds.variant": ON,
        "learn.objective.name": "dpo",
        "judge.kind": "ensemble",
    },
}
"""Method -> dotted key -> its value. What a method cannot do without it says itself."""


def filled(tree: Any) -> Any:
    """The tree of a config with these keys; what it says itself stays as it is."""
    method = tree.get("method") if isinstance(tree, Mapping) else None
    name = method.get("name") if isinstance(method, Mapping) else None
    known = DEFAULTS.get(name, {}) if isinstance(name, str) else {}
    for key, value in known.items():
        tree = _with(tree, key.split("."), value)
    return tree


def _with(tree: Any, path: list[str], value: Any) -> Any:
    if not isinstance(tree, Mapping):  # a value, null, or a section that is made already
        return tree
    first, *rest = path
    if not rest:
        return {first: value, **tree}
    return {**tree, first: _with(tree.get(first, {}), rest, value)}
