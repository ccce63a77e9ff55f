"""MLflow: a tracking server, or files of this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from selfevo_jax.lazy import extra
from selfevo_jax.trackers.base import About, Scalars, Settings, Texts, Tracker, TrackSection, missing

_RUN, _EVENTS = "selfevo.run", "selfevo.events"
"""Tags of a run: which one it is, and how many of its events are there."""
_METRICS, _PARAMS = 1000, 100
"""Of one request at most."""
_PARAM_LENGTH = 6000
_REFUSED = re.compile(r"[^\w\-. /]")
"""Letters that names of figures and parameters may not have."""


class MlflowSection(TrackSection):
    """MLflow. Users and tokens come from the environment (MLFLOW_TRACKING_TOKEN and so on)."""

    kind: Literal["mlflow"] = "mlflow"
    uri: Annotated[str, Field(pattern=r"\S")] | None = None
    """Of the server, or of a database or folder. None: as MLFLOW_TRACKING_URI says, else MLflow's own default."""
    experiment: Annotated[str, Field(pattern=r"\S")] = "selfevo"
    """Where the run is shown among others; made where there is none of that name."""

    def open(self, key: str) -> Tracker:
        return Mlflow(extra("mlflow", "mlflow-skinny", "mlflow", missing(key)), self)


class Mlflow:
    """A request holds whole events, and the tag that counts them: so what the server has, and how much, is one."""

    def __init__(self, package: Any, section: MlflowSection) -> None:
        self._package, self._section = package, section
        self._client: Any = None
        self._id = ""
        self._there = 0
        self._known: set[str] = set()
        """Parameters that are there already: MLflow lets none change."""

    def start(self, about: About) -> int:
        self._client = self._package.MlflowClient(tracking_uri=self._section.uri)
        named = self._client.get_experiment_by_name(self._section.experiment)
        experiment = named.experiment_id if named else self._client.create_experiment(self._section.experiment)
        found = self._client.search_runs([experiment], f"tags.`{_RUN}` = '{about.id}'")
        run = found[0] if found else self._client.create_run(experiment, tags={_RUN: about.id}, run_name=about.name)
        self._id, self._there = run.info.run_id, int(run.data.tags.get(_EVENTS, 0))
        self._known = set(run.data.params)
        return self._there

    def settings(self, events: Sequence[Settings]) -> None:
        param = self._package.entities.Param
        for event in events:
            values = {_REFUSED.sub("_", key): str(value)[:_PARAM_LENGTH] for key, value in event.values.items()}
            params = [param(key, value) for key, value in values.items() if key not in self._known]
            for first in range(0, len(params), _PARAMS):
                self._client.log_batch(self._id, params=params[first : first + _PARAMS])
            self._count(1)

    def scalars(self, events: Sequence[Scalars]) -> None:
        now = int(1000 * time.time())
        for part in _requests(events):
            metrics = [
                self._package.entities.Metric(_REFUSED.sub("_", name), value, now, event.at)
                for event in part
                for name, value in event.values.items()
            ]
            self._count(len(part), metrics)

    def texts(self, events: Sequence[Texts]) -> None:
        for event in events:
            for name, text in event.values.items():  # a file has no steps, as figures have: each round has its own
                self._client.log_text(self._id, text, f"round-{event.at}/{_REFUSED.sub('_', name)}.txt")
            self._count(1)

    def finish(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._id)

    def _count(self, more: int, metrics: Sequence[Any] = ()) -> None:
        tag = self._package.entities.RunTag(_EVENTS, str(self._there + more))
        self._client.log_batch(self._id, metrics=metrics, tags=[tag])
        self._there += more


def _requests(events: Sequence[Scalars]) -> Iterator[list[Scalars]]:
    """Whole events with as many figures together as a request may have."""
    part, figures = list[Scalars](), 0
    for event in events:
        if part and figures + len(event.values) > _METRICS:
            yield part
            part, figures = [], 0
        part.append(event)
        figures += len(event.values)
    if part:
        yield part
