"""The numbers of examples that a fine-tuning reads itself, under the parameters that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from selfevo_jax.data import Example
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import ModelConfig
from selfevo_jax.train.likelihood import likeliest_tokens, sequence_logps, token_logps
from selfevo_jax.train.objectives.base import MADE, REFERENCE, TEACHER_IDS, TEACHER_LOGPS, TOKEN_REFERENCE
from selfevo_jax.train.objectives.head import extra_shapes
from selfevo_jax.train.settings import TrainConfig

StartExtras = Mapping[str, float | np.ndarray]
"""Name of an extra -> the number of an example, or those of its T targets, `[T]` or `[T, K]`."""


def start_extras(
    params: Any,
    config: ModelConfig,
    examples: Sequence[Example],
    mesh: Mesh,
    settings: TrainConfig,
    on_done: Callable[[int], None] | None = None,
) -> list[StartExtras]:
    """Of each example the extras of `MADE` that the objective of `settings` reads.

    Arguments as for `sequence_logps`. Raises ConfigError for an example without a teacher where one is read.
    """
    reads, found = settings.objective.reads, [dict[str, float | np.ndarray]() for _ in examples]
    if REFERENCE in reads:
        sums = sequence_logps(params, config, examples, mesh, settings=settings, on_done=on_done)
        for row, logp in zip(found, sums, strict=True):
            row[REFERENCE] = logp
    if TOKEN_REFERENCE in reads:
        tokens = token_logps(params, config, examples, mesh, settings=settings, on_done=on_done)
        for row, logps in zip(found, tokens, strict=True):
            row[TOKEN_REFERENCE] = logps
    if TEACHER_IDS in reads:
        (count,) = extra_shapes(settings.objective)[TEACHER_IDS]
        teachers = _teachers(examples, settings)
        taught = likeliest_tokens(params, config, teachers, mesh, count=count, settings=settings, on_done=on_done)
        for row, (ids, logps) in zip(found, taught, strict=True):
            row |= {TEACHER_IDS: ids, TEACHER_LOGPS: logps}
    return list(found)


def _teachers(examples: Sequence[Example], settings: TrainConfig) -> list[Example]:
    found = [example.teacher for example in examples if example.teacher is not None]
    if len(found) < len(examples):
        bare = next(example.id for example in examples if example.teacher is None)
        raise ConfigError(
            f"training: objective {settings.objective.name} reads the teacher of each example, but row {bare!r} has "
            "none; the method must set it, or name another objective"
        )
    return found


def with_extras(example: Example, read: StartExtras) -> dict[str, float | np.ndarray]:
    """The extras of an example, those that it lacks as they were read."""

    def laid(values: float | np.ndarray) -> float | np.ndarray:
        if not np.ndim(values):
            return values
        by_token = np.zeros((len(example), *np.shape(values)[1:]), np.float32)
        by_token[example.weights != 0] = values
        return by_token

    return {name: laid(values) for name, values in read.items()} | dict(example.extras)


def made_by(reads: Sequence[str]) -> tuple[str, ...]:
    """Those of these extras that a fine-tuning makes itself."""
    return tuple(name for name in reads if name in MADE)
