"""What a run needs of an engine, what it has launched there, and how long the device was at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import jax
import numpy as np

from selfevo_jax.model import ModelConfig
from selfevo_jax.sample.decode import SlotState
from selfevo_jax.sample.programs import Programs
from selfevo_jax.sample.speculation import Pace
from selfevo_jax.sample.stops import Stream


class Programmed(Protocol):
    """What a run needs of an engine: its compiled programs and the shapes that they are for (see `Engine`)."""

    config: ModelConfig
    seed: int
    slots: int
    shards: int
    cache_length: int
    n_stops: int
    decode_steps: int
    text_steps: int
    overlap_steps: int
    extend_tokens: int
    extend_rows: tuple[int, ...]
    extend_lengths: tuple[int, ...]
    extend_windows: tuple[int, ...]
    decode_rows: tuple[int, ...]
    decode_windows: tuple[int, ...]
    pace: Pace
    drawable: np.ndarray | None
    programs: Programs
    new_stream: Callable[[], Stream]

    @property
    def allowed(self) -> jax.Array | None: ...
    def new_state(self) -> SlotState: ...
    def readable(self, *rows: jax.Array) -> tuple[jax.Array, ...]: ...
    def drafts_of(self, rows: int) -> int: ...
    def rows_of(self, length: int) -> tuple[int, ...]: ...
    def at_once(self, rows: int, length: int) -> int: ...
    def is_whole(self, rows: int, length: int) -> bool: ...


Told = dict[int, tuple[list[int], list[float]]]
"""Tokens and their log-probabilities, by slot."""


@dataclass(frozen=True)
class Launched:
    """A dispatch whose results (device arrays) have not been read."""

    row_of: dict[int, int]
    """Slot -> row, of the rows whose results count."""
    drawn: jax.Array
    """i32[E] of an extend, i32[steps, 1 + drafts, E] of decoding."""
    logprobs: jax.Array
    counts: tuple[jax.Array, jax.Array, jax.Array] | None = None
    """Of decoding: made, steps, and drafted (see `Dispatcher.decode_many`)."""
    n_rows: int = 0
    """Of decoding: rows of a shard."""
    most: int = 0
    """Of decoding: tokens of a row at most."""
    shape: tuple[int, int] | None = None
    """Of decoding whose time is taken: rows of a shard and window."""
    places: np.ndarray | int = 0
    """Of an extend: what each shard computes, in tokens."""

    @property
    def is_done(self) -> bool:
        """Whether the device is through with it."""
        done: bool = self.drawn.is_ready()  # type: ignore[attr-defined]
        return done

    def read(self) -> tuple[Told, np.ndarray, int, int]:
        """Of decoding, once it is done: what each slot has drawn; made, steps, drafted."""
        assert self.counts is not None
        drawn, scores, (made, steps, drafted) = jax.device_get((self.drawn, self.logprobs, self.counts))
        told = np.arange(drawn.shape[1])[:, None] < made[:, None]  # [steps, 1 + drafts, E]
        found: Told = {}
        for i, row in self.row_of.items():
            here = told[:, :, row]
            found[i] = drawn[:, :, row][here].tolist(), scores[:, :, row][here].tolist()
        return found, made, int(steps), int(drafted)


def read_extends(extends: Sequence[Launched]) -> Told:
    """What each slot has drawn in these, once they are done."""
    found: Told = {}
    firsts = jax.device_get([(extend.drawn, extend.logprobs) for extend in extends])
    for extend, (drawn, scores) in zip(extends, firsts, strict=True):
        for i, row in extend.row_of.items():
            found[i] = [int(drawn[row])], [float(scores[row])]
    return found


@dataclass
class DeviceClock:
    """Since when the device has been at work on what is read next, as the host sees it."""

    since: float = field(default_factory=time.perf_counter)

    def lap(self) -> float:
        """Seconds until now, when that has been read; from here on it is at work on what was launched behind."""
        before, self.since = self.since, time.perf_counter()
        return self.since - before
