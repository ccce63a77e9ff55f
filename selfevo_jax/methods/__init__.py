"""Methods: one small, pure file each."""

from selfevo_jax.methods.base import BASE, META, Bench, Draws, Learning, Made, Method
from selfevo_jax.methods.registry import open_method
from selfevo_jax.methods.selection import Selection

__all__ = ["BASE", "META", "Bench", "Draws", "Learning", "Made", "Method", "Selection", "open_method"]
