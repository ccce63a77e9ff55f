"""The loop: meta-skill learning, then rounds of respond, judge, refine, select, learn."""

from selfevo_jax.rounds.controller import Controller
from selfevo_jax.rounds.workbench import Workbench, open_workbench, select_platform

__all__ = ["Controller", "Workbench", "open_workbench", "select_platform"]
