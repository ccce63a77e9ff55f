"""A fine-tuning of ten steps that may be stopped in any of them, and be looked at."""

import jax
import numpy as np
from random_params import random_params

from selfevo_jax.checkpoint import TrainingStore
from selfevo_jax.data import Batches, Example
from selfevo_jax.model import ModelConfig
from selfevo_jax.sharding import make_mesh
from selfevo_jax.train import SavePolicy, TrainConfig, TrainingKeeper, fit

CONFIG = ModelConfig(48, 16, 2, 2, 1, 8, 24, max_position=32)
SETTINGS = TrainConfig(steps=10, warmup_steps=2, learning_rate=1e-2, schedule="linear", batch_rows=4, length=16)


class Batched:
    """Batches that note which examples were learnt from, and call `before_step` with the number of each step."""

    def __init__(self, before_step=lambda step: None):
        rng = np.random.default_rng(0)
        examples = [
            Example(f"row{i}", "x", rng.integers(0, 48, 9).astype(np.int32), (np.arange(9) > 2).astype(np.float32))
            for i in range(29)
        ]
        self.inner, self.before_step, self.seen = Batches({"x": (examples, 1.0)}, 4, 16, seed=3), before_step, {}

    def at(self, step):
        self.before_step(step)
        batch, ids = self.inner.at(step)
        self.seen[step] = ids
        return batch, ids


def train(folder, batched, mesh=(1, 1, 1), settings=SETTINGS, **policy):
    devices = jax.devices()[: int(np.prod(mesh))]
    keeper = None
    if folder is not None:
        keeper = TrainingKeeper(TrainingStore(folder), SavePolicy(**policy), "the test")
    mesh = make_mesh(*mesh, devices)
    try:
        return fit(random_params(CONFIG), CONFIG, batched, settings, mesh, keeper=keeper)
    except Exception:
        if keeper is not None:
            keeper.store.finish()  # a training that is stopped here leaves every state that it began to save
        raise
