"""Tasks: where rows come from, and what their answers are."""

from selfevo_jax.tasks.base import Answer, BuiltMeta, Cut, Questions, Task
from selfevo_jax.tasks.files import open_rows
from selfevo_jax.tasks.overlap import check_held_out, check_overlap
from selfevo_jax.tasks.registry import cut_of, open_task

__all__ = [
    "Answer",
    "BuiltMeta",
    "Cut",
    "Questions",
    "Task",
    "check_held_out",
    "check_overlap",
    "cut_of",
    "open_rows",
    "open_task",
]
