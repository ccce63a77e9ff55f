"""Tasks of lm-evaluation-harness (the package lm-eval), answered by our engine."""

from selfevo_jax.harness.command import MODES, Measured, measure_tasks

__all__ = ["MODES", "Measured", "measure_tasks"]
