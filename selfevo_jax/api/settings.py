"""Settings as Python has them, for a config as the command line has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """`key=value` of dotted keys and plain values; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]
