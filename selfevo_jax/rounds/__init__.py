"""The loop: meta-skill learning, then rounds of respond, judge, refine, select, learn."""

from selfevo_jax.rounds.controller import Controller
from selfevo_jax.rounds.forking import fork
from selfevo_jax.rounds.run_dir import RunDir, name_of
from selfevo_jax.rounds.verify import Verified, records, verify
from selfevo_jax.rounds.workbench import Workbench, open_workbench, select_platform

__all__ = [
    "Controller",
    "RunDir",
    "Verified",
    "Workbench",
    "fork",
    "name_of",
    "open_workbench",
    "records",
    "select_platform",
    "verify",
]
