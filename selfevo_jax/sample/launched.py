"""What a run needs of an engine, and what it has launched there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    shape: tuple[int, int] = (0, 0)
    """Of decoding: rows of a shard and window."""
    places: np.ndarray | int = 0
    """Of an extend: what each shard computes, in tokens."""
