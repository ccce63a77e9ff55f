"""What makes two runs the same: the keys of a config that say what is computed, and what the data and the model are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from selfevo_jax.config import Config
from selfevo_jax.judges import WHERE_AND_HOW

SAFE_TO_CHANGE = (
    "run_dir",
    "rounds.number",
    "rounds.stop_when_worse",
    "platform",
    "mesh",
    "sampling.slots",
    "sampling.tensor",
    "sampling.speculate",
    "saving",
    "track",
)
"""Keys that may differ when a run is resumed: they say how long or where it runs, not what it computes."""


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a config."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def is_safe_to_change(key: str) -> bool:
    """Whether a key is one of SAFE_TO_CHANGE or below one, or says where a judge's server is and how it is asked."""
    section, _, name = key.rpartition(".")
    if section.endswith(".endpoint") and name in WHERE_AND_HOW:
        return True
    return any(key == safe or key.startswith(f"{safe}.") for safe in SAFE_TO_CHANGE)


def config_differences(old: Config, new: Config) -> list[str]:
    """`key: old -> new` for every key that differs and may not change on resume."""
    before, after = dict(flat(old.model_dump(mode="json"))), dict(flat(new.model_dump(mode="json")))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key) and not is_safe_to_change(key)]
    found = [f"{key}: {_shown(before.get(key))} -> {_shown(after.get(key))}" for key in keys]
    sets, others = list(old.data.evaluation), list(new.data.evaluation)
    if sorted(sets) == sorted(others) and sets != others:
        found.append(f"data.evaluation: the order of the sets, {', '.join(sets)} -> {', '.join(others)}")
    return found


def _shown(value: Any) -> str:
    """As a config would have it."""
    return json.dumps(value, ensure_ascii=False)


def identity(config: Config, fingerprints: Mapping[str, str]) -> str:
    """A digest of what a run computes: the same however long and wherever it runs."""
    keys = {key: value for key, value in flat(config.model_dump(mode="json")) if not is_safe_to_change(key)}
    told = json.dumps([keys, dict(fingerprints)], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
