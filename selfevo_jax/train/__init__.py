"""Fine-tuning: loss, optimizer, step and loop."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.train.keep import SavePolicy, TrainingKeeper
    from selfevo_jax.train.likelihood import likeliest_tokens, sequence_logps, token_logps
    from selfevo_jax.train.loop import TrainReport, fit, run_steps, step_row
    from selfevo_jax.train.loss import token_loss_sums
    from selfevo_jax.train.objectives import (
        REFERENCE,
        TEACHER_IDS,
        TEACHER_LOGPS,
        TOKEN_REFERENCE,
        Objective,
        ObjectiveSection,
        Sequences,
        Targets,
        open_objective,
    )
    from selfevo_jax.train.objectives.smoothing import settled
    from selfevo_jax.train.optimizer import learning_rates
    from selfevo_jax.train.section import LoraSection, MetaSection, SavingSection, TrainSection, train_settings
    from selfevo_jax.train.settings import TrainConfig
    from selfevo_jax.train.starting import StartExtras, made_by, start_extras, with_extras
    from selfevo_jax.train.state import TrainState, init_state
    from selfevo_jax.train.step import check_settings, gradient_shapes, lower_train_step, make_train_step
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "REFERENCE",
    "TEACHER_IDS",
    "TEACHER_LOGPS",
    "TOKEN_REFERENCE",
    "LoraSection",
    "MetaSection",
    "Objective",
    "ObjectiveSection",
    "SavePolicy",
    "SavingSection",
    "Sequences",
    "StartExtras",
    "Targets",
    "TrainConfig",
    "TrainReport",
    "TrainSection",
    "TrainState",
    "TrainingKeeper",
    "check_settings",
    "fit",
    "gradient_shapes",
    "init_state",
    "learning_rates",
    "likeliest_tokens",
    "lower_train_step",
    "made_by",
    "make_train_step",
    "open_objective",
    "run_steps",
    "sequence_logps",
    "settled",
    "start_extras",
    "step_row",
    "token_logps",
    "token_loss_sums",
    "train_settings",
    "with_extras",
]
