"""Which kinds of trackers there are: those of this room, entry points of `selfevo_jax.trackers`, and `module:name`."""

from __future__ import annotations

import importlib

from pydantic import ConfigDict, JsonValue

from selfevo_jax import plugins
from selfevo_jax.trackers.base import Tracker, TrackSection

GROUP = "selfevo_jax.trackers"
BUILT_IN = {
    "tensorboard": ("tensorboard", "TensorboardSection"),
    "wandb": ("wandb", "WandbSection"),
    "trackio": ("wandb", "TrackioSection"),
    "mlflow": ("mlflow", "MlflowSection"),
}
"""Kind -> the module of this room that has it, and its section. No package is imported before a tracker is opened."""


class PlugIn(TrackSection):
    """A tracker from outside: what is named is called with the settings beside `kind`, `name` and `dir`, and gives a
    `Tracker`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue]

    def open(self, key: str) -> Tracker:
        settings = self.__pydantic_extra__
        found: Tracker = plugins.made(GROUP, self.kind, f"{key}.kind", list(BUILT_IN), Tracker, **settings)
        return found


def section_of(kind: str) -> type[TrackSection]:
    """Raises ValueError, with the nearest one, for an unknown kind."""
    if kind not in BUILT_IN:
        plugins.check_name(GROUP, kind, list(BUILT_IN))
        return PlugIn
    module, name = BUILT_IN[kind]
    found: type[TrackSection] = getattr(importlib.import_module(f"selfevo_jax.trackers.{module}"), name)
    return found
