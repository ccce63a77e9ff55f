"""A list of trackers in the config."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from selfevo_jax.errors import shown
from selfevo_jax.trackers.base import TrackSection


def _tracker(value: Any) -> Any:
    tree = TrackSection.written_out(value)
    if not isinstance(tree, dict) or not isinstance(tree.get("kind"), str):
        found = "a section without `kind`" if isinstance(tree, dict) else shown(value)
        raise ValueError(f"found {found}, expected {TrackSection.in_words}")
    return TrackSection.of(tree).model_validate(tree)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


AnyTracker = Annotated[SerializeAsAny[TrackSection], BeforeValidator(_tracker)]
Trackers = Annotated[tuple[AnyTracker, ...], BeforeValidator(_listed)]
"""One, or a list of several."""
