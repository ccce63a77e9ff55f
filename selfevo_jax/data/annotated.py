"""What `selfevo annotate` writes beside a file of D_meta of how its responses were made, for those who use the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfevo_jax.errors import ConfigError, shown
from selfevo_jax.storage import place
from selfevo_jax.text import FormatSection

_ASKED_BY = ("kind", "system", "respond", "stop_strings", "template")
"""Keys of a format that say how a model is asked for a response, and where it ends."""


def folder_of(rows: Path) -> Path:
    """The folder beside a file of rows."""
    return rows.with_name(f"{rows.stem}.annotate")


def summary_of(rows: Path) -> Path:
    return folder_of(rows) / "summary.json"


@dataclass(frozen=True)
class Annotated:
    """How the responses of a file of D_meta were made."""

    drawn: int
    """Responses that a model was asked for."""
    cut: int
    """Of them those that were cut, and gave no row."""
    limit: int | None
    """Tokens of a response at most."""
    format: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the config's `format` under which the base was asked; none where no base was sampled."""


def annotated(source: str) -> Annotated | None:
    """None where nothing is known: rows from elsewhere, or responses that were there before."""
    try:
        file = summary_of(place(source))
        if not file.is_file():
            return None
        told = json.loads(file.read_bytes())
        base, counts, limit = told.get("base") or {}, told["counts"], told["response_tokens"]
        of_base = dict(base.get("format") or {})
        found = Annotated(int(counts["drawn"]), int(counts["cut"]), None if limit is None else int(limit), of_base)
        FormatSection(**of_base)
    except (OSError, ConfigError, ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError):
        return None  # of another version, or no summary of ours
    return found


def asked_by(format: FormatSection) -> dict[str, Any]:
    """What a response depends on of a format, as plain JSON values. Raises ConfigError for one that cannot be used."""
    return format.filled().model_dump(mode="json", include=set(_ASKED_BY))


def format_notice(source: str, format: FormatSection) -> str | None:
    """A line where the responses of D_meta were sampled under another format than that of the rounds."""
    known = annotated(source)
    if known is None or not known.format:
        return None
    now = asked_by(format)
    others = [key for key in _ASKED_BY if key in known.format and known.format[key] != now[key]]
    if not others:
        return None
    told = ", ".join(f"format.{key} {shown(known.format[key])} there, {shown(now[key])} here" for key in others)
    return (
        f"{source}: its responses were sampled under another format ({told}): the model learns to judge other answers "
        "than those of the rounds. Set the format to that of D_meta, or make D_meta anew with this config: selfevo "
        "annotate ... --base CONFIG"
    )
