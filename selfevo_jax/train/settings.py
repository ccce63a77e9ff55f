"""The settings of one fine-tuning."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from selfevo_jax.errors import ConfigError
from selfevo_jax.model import LoraConfig, Remat
from selfevo_jax.train.objectives import Objective, Sft, open_objective
from selfevo_jax.train.section import TrainSection

WARMUP_STEPS = 20
"""Of a fine-tuning whose config names none, where that is at most a fifth of its steps."""


@dataclass(frozen=True)
class TrainConfig:
    """AdamW with warm-up and decay over a fixed number of steps. Frozen and hashable."""

    steps: int = 150
    learning_rate: float = 1e-3
    """The peak."""
    warmup_steps: int = 20
    """Steps of linear rise; the step after the last of them has the peak. 0 starts at the peak."""
    schedule: Literal["cosine", "linear"] = "cosine"
    end_fraction: float = 0.1
    """Learning rate of the last step as a share of the peak; 0 comes after the last step, so that each one trains."""
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Decoupled (AdamW), on matrices alone: not on norms or biases."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient of the mean loss; infinite turns clipping off."""
    batch_rows: int = 32
    """Packed rows a step, over all devices and micro-batches."""
    length: int = 256
    """Tokens in a packed row."""
    accumulate: int = 1
    """Micro-batches a step, one after the other; the update does not depend on it."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations and matrix products. Parameters, optimizer state, norms, softmax and loss are fp32."""
    first_moment_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of Adam's first moment; bfloat16 saves 2 bytes a parameter."""
    remat: Remat = "none"
    """What the backward pass computes again to save memory."""
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


def train_settings(
    section: TrainSection, seed: int, steps: int | None = None, objective: Objective | None = None
) -> TrainConfig:
    """The settings of a config's section; its other keys are about the data. `objective`: in place of the section's.

    `steps` is what a length in epochs comes to with the data at hand; its warm-up is then at most all but the last of
    them. Before the data is known, a length in epochs counts as the fewest steps that its warm-up allows.
    """
    fields: dict[str, Any] = {
        f.name: getattr(section, f.name) for f in dataclasses.fields(TrainConfig) if hasattr(section, f.name)
    }
    if section.epochs is not None:
        fields["steps"] = (section.warmup_steps or 0) + 1 if steps is None else steps
    if section.warmup_steps is None:
        fields["warmup_steps"] = min(WARMUP_STEPS, fields["steps"] // 5)
    elif section.epochs is not None:
        fields["warmup_steps"] = min(section.warmup_steps, fields["steps"] - 1)
    if section.lora is not None:
        fields["lora"] = LoraConfig(**section.lora.model_dump(exclude={"save"}))
    fields["objective"] = open_objective(section.objective) if objective is None else objective
    return TrainConfig(**fields, seed=seed)
