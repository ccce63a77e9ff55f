"""Word problems with equations, and D_meta of the base's own bare answers to them."""

from selfevo_jax.tasks.equations.meta import build_meta
from selfevo_jax.tasks.equations.problems import Problem, Problems, read_problems

__all__ = ["Problem", "Problems", "build_meta", "read_problems"]
