"""The settings of one fine-tuning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from selfevo_jax.errors import ConfigError
from selfevo_jax.model.learning import LoraConfig, Remat
from selfevo_jax.train.objectives.sft import Sft

if TYPE_CHECKING:
    from selfevo_jax.train.objectives.base import Objective

Schedule = Literal["cosine", "linear"]
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """AdamW with warm-up and decay over a fixed number of steps. Frozen and hashable. Defaults stand here; what the
    settings mean to a user, in `TrainSection`."""

    steps: int = 150
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    """Steps of linear rise; the step after the last of them has the peak. 0 starts at the peak."""
    schedule: Schedule = "cosine"
    end_fraction: float = 0.1
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Decoupled (AdamW), on matrices alone: not on norms or biases."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient of the mean loss; infinite turns clipping off."""
    batch_rows: int = 32
    length: int = 256
    accumulate: int = 1
    """Micro-batches a step, one after the other; the update does not depend on it."""
    compute_dtype: Dtype = "float32"
    """Of activations and matrix products. Parameters, optimizer state, norms, softmax and loss are fp32."""
    first_moment_dtype: Dtype = "float32"
    remat: Remat = "none"
    scan_layers: bool | None = None
    """One compiled layer that runs n times, with the layers' parameters stacked; None scans on TPU alone (a CPU is 1.4
    times slower at it)."""
    lora: LoraConfig | None = None
    """Learn adapters and leave the parameters as they are, in `compute_dtype`; None learns all parameters."""
    objective: Objective = Sft()
    """What is made small; a part of the compiled step."""
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            hash(self.objective)
        except TypeError:
            raise ConfigError(
                f"objective {self.objective.name}: found one that cannot be hashed, expected a frozen dataclass whose "
                "settings are numbers, texts and tuples"
            ) from None
        for name in ("steps", "batch_rows", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training: {name} is {getattr(self, name)}, expected 1 or more")
        if self.length < 2:
            raise ConfigError(f"training: length is {self.length}, expected 2 or more (a token and its target)")
        if not 0 <= self.warmup_steps < self.steps:
            raise ConfigError(
                f"training: warmup_steps is {self.warmup_steps}, expected 0 to {self.steps - 1} (steps is {self.steps})"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"training: learning_rate is {self.learning_rate}, expected a finite number above 0")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"training: {name} is {getattr(self, name)}, expected a number from 0 below 1")
        if not self.learning_rate * self.weight_decay < 1:
            raise ConfigError(
                f"training: learning_rate {self.learning_rate:g} times weight_decay {self.weight_decay:g} is 1 or "
                "more, which takes every matrix to zero or beyond in one step; lower one of them"
            )
        if not self.clip_norm > 0:
            raise ConfigError(f"training: clip_norm is {self.clip_norm}, expected a number above 0")
        if self.batch_rows % self.accumulate:
            raise ConfigError(
                f"training: {self.batch_rows} batch_rows do not divide in {self.accumulate} micro-batches (accumulate)"
            )
        if self.schedule not in {"cosine", "linear"}:
            raise ConfigError(f"training: schedule is {self.schedule!r}, expected 'cosine' or 'linear'")
        for name in ("compute_dtype", "first_moment_dtype"):
            if getattr(self, name) not in {"float32", "bfloat16"}:
                raise ConfigError(f"training: {name} is {getattr(self, name)!r}, expected 'float32' or 'bfloat16'")
        if self.remat not in get_args(Remat):
            raise ConfigError(f"training: remat is {self.remat!r}, expected one of {', '.join(get_args(Remat))}")
