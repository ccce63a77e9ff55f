"""Tasks of lm-evaluation-harness (the package lm-eval), answered by our engine."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.harness.command import Measured, measure_tasks
else:
    __getattr__ = on_demand(__name__)

__all__ = ["Measured", "measure_tasks"]
