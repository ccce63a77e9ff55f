"""The seam between a run and what shows its figures: a tracker takes a run's events, in order and once each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from selfevo_jax.errors import ConfigError
from selfevo_jax.section import Section

Axis = Literal["step", "round"]
"""What figures are shown over: steps of fine-tuning, counted through the whole run; or rounds, of which 0 is M_meta
and -1 the base."""


@dataclass(frozen=True)
class Settings:
    """The config of a run: its first event."""

    values: Mapping[str, Any]
    """Dotted keys and plain JSON values."""


@dataclass(frozen=True)
class Scalars:
    """Figures of one step or round."""

    axis: Axis
    at: int
    values: Mapping[str, float]
    """By names with slashes, such as `accuracy/gsm8k/direct`. Shares are from 0 to 1, times in seconds."""


@dataclass(frozen=True)
class Texts:
    """Texts of one round; models wrote them, so they are shown as they are and never as markup."""

    at: int
    values: Mapping[str, str]


Event = Settings | Scalars | Texts


@dataclass(frozen=True)
class About:
    """Which run is shown."""

    name: str
    """For people: the last part of its run directory (`VARIANT/seed-N` in a study), unless the config says another."""
    id: str
    """16 hexadecimal digits: the same whenever this run is shown under this name."""
    run_dir: str
    dir: Path = field(default_factory=Path)
    """A folder of this machine for what the tracker keeps of this run; it need not be there yet, and other trackers may
    keep something in it, too."""


class Tracker(Protocol):
    """Shows a run. Every event has a number, from 0: what a tracker has already is never given to it again, whether the
    process before was killed or `selfevo log` is called twice.

    Whatever it raises, and however long it takes, the run goes on: it is called in a thread of its own.
    """

    def start(self, about: About) -> int:
        """Begins to show a run, or goes on. Returns how many of its events are there already, as the tracker's own
        records say; 0 where it shows a run anew each time."""
        ...

    def settings(self, events: Sequence[Settings]) -> None:
        """Takes the config."""
        ...

    def scalars(self, events: Sequence[Scalars]) -> None:
        """Takes figures, in their order. They are in place when it returns, or on their way."""
        ...

    def texts(self, events: Sequence[Texts]) -> None:
        """Takes texts."""
        ...

    def finish(self) -> None:
        """Returns when everything that was given is in place."""
        ...


class TrackSection(Section):
    """A tracker in the config: a kind with its settings. A kind of ours is a subclass with `open`."""

    in_words: ClassVar[str] = "a kind such as tensorboard, or a section such as {kind: wandb, project: mine}"

    kind: str
    """`tensorboard`, `wandb`, `trackio`, `mlflow`, one of an installed package (entry points
    `selfevo_jax.trackers`), or `module:name`."""
    name: Annotated[str, Field(pattern=r"\S")] | None = None
    """Of the run, as it is shown. None: the last part of run_dir; of a run of a study `VARIANT/seed-N`."""
    dir: Annotated[str, Field(pattern=r"\S")] | None = None
    """A folder of this machine for what the tracker keeps; each run has one of its own in it. None: `tracking` in
    run_dir."""

    @classmethod
    def written_out(cls, value: Any) -> Any:
        """From a kind alone."""
        return {"kind": value} if isinstance(value, str) else value

    @classmethod
    def of(cls, value: Any) -> type[Any]:
        from selfevo_jax.trackers.registry import section_of

        kind = value.get("kind") if isinstance(value, dict) else None
        return section_of(kind) if isinstance(kind, str) else cls

    def open(self, key: str) -> Tracker:
        """The tracker, not started; `key` is the config's, for errors. Raises ConfigError where it cannot work here."""
        raise NotImplementedError


def missing(key: str) -> Any:
    """What `lazy.extra` raises where the package of a tracker is not installed."""
    return lambda problem: ConfigError(f"{key}: {problem}")
