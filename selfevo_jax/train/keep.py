"""When a fine-tuning saves its state, and how it goes on from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax

from selfevo_jax import hosts, notice
from selfevo_jax.checkpoint import TrainingStore
from selfevo_jax.train.state import TrainState


@dataclass
class SavePolicy:
    """After so many steps, or so many seconds, since the last save. None is never."""

    every_steps: int | None = None
    every_seconds: float | None = None
    clock: Callable[[], float] = time.monotonic
    _step: int = field(default=0, init=False)
    _time: float = field(default=0.0, init=False)

    def start(self, step: int) -> None:
        """Counts from here."""
        self._step, self._time = step, self.clock()

    def due(self, step: int) -> bool:
        """Whether the state after `step` updates is to be saved."""
        if self.every_steps is not None and step - self._step >= self.every_steps:
            return True
        return self.every_seconds is not None and self.clock() - self._time >= self.every_seconds


class Keeper(Protocol):
    """What the training loop asks after each step it has dispatched; equal on all processes."""

    def due(self, step: int) -> bool:
        """Whether `keep` is to be called with the state after `step` updates."""

    def keep(self, state: TrainState, record: dict[str, Any]) -> None:
        """Takes the state, and plain JSON values that belong to it. What it raises ends the training."""


class TrainingKeeper:
    """Saves by a policy, and on a notice to end: then it saves and raises Preempted."""

    def __init__(self, store: TrainingStore, policy: SavePolicy, title: str) -> None:
        self.store, self.policy, self.title = store, policy, title

    def due(self, step: int) -> bool:
        self.store.allowed()  # a run that another process has taken over ends at the next step
        # clocks and notices differ between hosts
        return any(hosts.gather("whether to save the training", self.policy.due(step) or notice.given()))

    def keep(self, state: TrainState, record: dict[str, Any]) -> None:
        step = int(jax.device_get(state.step))
        self.store.save(step, _saved(state), record)
        self.policy.start(step)
        if any(hosts.gather("whether to end", notice.given())):
            self.store.finish()
            notice.stop(f"after step {step} of {self.title}, which is saved")

    def resume(self, state: TrainState) -> tuple[TrainState, dict[str, Any] | None]:
        """The newest saved state in place of a fresh one, whose arrays are given up for it; and its record."""
        step = self.store.latest()
        self.policy.start(step or 0)
        if step is None:
            return state, None
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _saved(state))
        for leaf in jax.tree.leaves(_saved(state)):
            leaf.delete()
        saved, record = self.store.restore(step, like)
        return replace(state, **saved), record


def _saved(state: TrainState) -> dict[str, Any]:
    """What is not found elsewhere: adapters rest on parameters that a checkpoint holds already."""
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}
