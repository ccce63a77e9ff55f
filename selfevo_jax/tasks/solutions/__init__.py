"""Worked solutions in GSM8K's format, and D_meta that is built from them."""

from selfevo_jax.tasks.solutions.planted import build_meta_rows
from selfevo_jax.tasks.solutions.worked import parse_solution

__all__ = ["build_meta_rows", "parse_solution"]
