"""Weights & Biases, and trackio, which has the same functions and needs no account."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from selfevo_jax.lazy import extra
from selfevo_jax.storage import storage_of
from selfevo_jax.trackers.base import About, Scalars, Settings, Texts, Tracker, TrackSection, missing

Name = Annotated[str, Field(pattern=r"\S")]
_LOGIN_SECONDS = 5.0
"""That a question for the account's key waits on a terminal: nobody may be there."""
_AXES = {"step": "train/step", "round": "round"}
"""Axis -> the figure that holds its place, so that charts are drawn over it."""


class _Section(TrackSection):
    project: Name = "selfevo"
    """Where the run is shown among others."""

    def open(self, key: str) -> Tracker:
        return Wandb(self.package(key), self)

    def package(self, key: str) -> Any:
        """The module. Raises ConfigError where it is not installed."""
        return extra(self.kind, self.kind, self.kind, missing(key))

    def named(self, about: About) -> str:
        """What a run is called there that was not shown before."""
        return about.name

    @abstractmethod
    def options(self, about: About) -> dict[str, Any]:
        """Of `init`, beside those that both have."""


class WandbSection(_Section):
    """Weights & Biases. The key of the account comes from WANDB_API_KEY, or from `wandb login`."""

    kind: Literal["wandb"] = "wandb"
    entity: Name | None = None
    """User or team. None: the account's own."""
    mode: Literal["online", "offline"] | None = None
    """`offline` keeps files for `wandb sync`. None: as WANDB_MODE says, else online."""

    def options(self, about: About) -> dict[str, Any]:
        return {
            "id": about.id,
            "dir": str(about.dir),
            "entity": self.entity,
            "mode": self.mode,
            "reinit": "create_new",
            "settings": {"console": "off", "silent": True, "login_timeout": _LOGIN_SECONDS},
        }


class TrackioSection(_Section):
    """trackio: a dashboard on this machine (`trackio show`), or a Space of the Hugging Face hub (TRACKIO_SPACE_ID)."""

    kind: Literal["trackio"] = "trackio"

    def named(self, about: About) -> str:
        """With a part of the id: two runs of one name in a project would be one there."""
        return f"{about.name}-{about.id[:8]}"

    def options(self, about: About) -> dict[str, Any]:
        return {}


class Wandb:
    """One step of theirs for each of a run's events. How many are there is asked of the server where one keeps them;
    elsewhere it is noted in a file beside what the package keeps itself, with the run's name: trackio knows a run by
    that alone."""

    def __init__(self, package: Any, section: _Section) -> None:
        self._package, self._section = package, section
        self._run: Any = None
        self._note: Path | None = None
        self._there, self._name = 0, ""

    def start(self, about: About) -> int:
        about.dir.mkdir(parents=True, exist_ok=True)
        note = about.dir / f"{self._section.kind}-{self._section.project.replace('/', '-')}-{about.id}.events"
        there, name = self._noted(note, about)
        given = {"project": self._section.project, "name": name, "resume": "allow"}
        self._run = self._package.init(**given, **self._section.options(about))
        if getattr(self._run, "offline", True):
            self._note, self._there, self._name = note, there, name
        else:
            self._there = self._run.step
            for axis in _AXES.values():
                self._run.define_metric(axis)
            self._run.define_metric("*", step_metric=_AXES["round"])
            self._run.define_metric("train/*", step_metric=_AXES["step"])
        return self._there

    def settings(self, events: Sequence[Settings]) -> None:
        for event in events:
            self._run.config.update(dict(event.values))
            self._log({_AXES["round"]: -1})

    def scalars(self, events: Sequence[Scalars]) -> None:
        for event in events:
            self._log({**event.values, _AXES[event.axis]: event.at})

    def texts(self, events: Sequence[Texts]) -> None:
        for event in events:
            table = self._package.Table(columns=["name", "text"], data=[list(pair) for pair in event.values.items()])
            self._log({"texts": table, _AXES["round"]: event.at})

    def finish(self) -> None:
        if self._run is not None:
            self._run.finish()

    def _noted(self, note: Path, about: About) -> tuple[int, str]:
        """How many events are there, and the name that they are there under; a note of an older version has none, and
        its run has that of its folder."""
        if not note.exists():
            return 0, self._section.named(about)
        count, _, name = note.read_bytes().decode("utf-8", "surrogateescape").partition("\n")
        return int(count), name or self._section.name or Path(about.run_dir).name

    def _log(self, values: Mapping[str, Any]) -> None:
        self._run.log(dict(values), step=self._there)
        self._there += 1
        if self._note is not None:
            storage_of(self._note).note(self._note, f"{self._there}\n{self._name}".encode("utf-8", "surrogateescape"))
