"""selfevo_jax: a language model improves itself by its own language feedback.

From Python, where everything is imported when it is first used:

    import selfevo_jax as se

    model = se.load("builtin:stories")
    texts = model.sample("Mia has 7 shells. Then Mia finds 5. How many now?", n=5)
    run = se.evolve("configs/quickstart.yaml", {"run_dir": "runs/mine"})
    print(run.verdict())
"""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.api.evolving import evolve
    from selfevo_jax.api.model import Model, load
    from selfevo_jax.api.records import Accuracy, Checkpoint, Run, Step, read_run
    from selfevo_jax.chains import Candidate, Feedback, Rollout
    from selfevo_jax.errors import SelfevoError
    from selfevo_jax.harness.likelihood import Likelihood
    from selfevo_jax.run import Cost
    from selfevo_jax.sample import Completion
else:
    __getattr__ = on_demand(__name__)

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "Candidate",
    "Checkpoint",
    "Completion",
    "Cost",
    "Feedback",
    "Likelihood",
    "Model",
    "Rollout",
    "Run",
    "SelfevoError",
    "Step",
    "evolve",
    "load",
    "read_run",
]
