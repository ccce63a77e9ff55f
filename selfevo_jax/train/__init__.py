"""Fine-tuning: loss, optimizer, step and loop."""

from selfevo_jax.train.loop import TrainReport, fit, run_steps
from selfevo_jax.train.loss import token_loss_sums
from selfevo_jax.train.optimizer import learning_rates
from selfevo_jax.train.settings import TrainConfig
from selfevo_jax.train.step import (
    TrainState,
    check_rows,
    init_state,
    lower_train_step,
    make_train_step,
    state_shardings,
)

__all__ = [
    "TrainConfig",
    "TrainReport",
    "TrainState",
    "check_rows",
    "fit",
    "init_state",
    "learning_rates",
    "lower_train_step",
    "make_train_step",
    "run_steps",
    "state_shardings",
    "token_loss_sums",
]
