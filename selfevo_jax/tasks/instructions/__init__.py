"""The task `instructions`: prompts with verifiable instructions in the manner of IFEval, made by a seed."""

from selfevo_jax.tasks.instructions.crafts import Demand, feedback, near_miss, repaired
from selfevo_jax.tasks.instructions.generate import InstructionRow, make_rows
from selfevo_jax.tasks.instructions.meta import build_meta
from selfevo_jax.tasks.instructions.splits import Part, Parts, check_apart, split

__all__ = [
    "Demand",
    "InstructionRow",
    "Part",
    "Parts",
    "build_meta",
    "check_apart",
    "feedback",
    "make_rows",
    "near_miss",
    "repaired",
    "split",
]
