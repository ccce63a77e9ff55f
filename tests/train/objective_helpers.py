"""A tiny model, and the sums that an objective makes of packed rows on a mesh."""

import functools

import jax
import numpy as np

from selfevo_jax.data import Batch
from selfevo_jax.model import ModelConfig, Transformer
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import TrainConfig
from selfevo_jax.train.ordered import ordered_axis, sums_in_order
from selfevo_jax.train.state import Form
from selfevo_jax.train.step import gradient_sums

CONFIG = ModelConfig(32, 16, 1, 2, 1, 8, 24, max_position=32)
LENGTH, ROWS = 24, 16
MODEL = Transformer(CONFIG)


@functools.cache
def program(objective, shape):
    mesh = make_mesh(*shape, jax.devices()[: int(np.prod(shape))])
    form = Form.of(CONFIG, TrainConfig(batch_rows=ROWS, length=LENGTH, objective=objective), mesh, TRAIN_RULES)
    if (axis := ordered_axis(mesh, TRAIN_RULES)) is None:
        return form.learnt, jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))
    alone = form.on_one_device(axis)
    return form.learnt, jax.jit(sums_in_order(lambda p, b: gradient_sums(alone, (p, ()), b), mesh, axis))


def sums_of(objective, params, packed, shape=(1, 1, 1), accumulate=1):
    layout, compiled = program(objective, shape)
    arrays = (packed.tokens, packed.weights, packed.segment_ids, packed.positions, packed.extras)
    batch = jax.tree.map(lambda x: np.pad(x, [(0, ROWS - len(x)), *[(0, 0)] * (x.ndim - 1)]), Batch(*arrays))
    return compiled(jax.device_put(params, layout), batch.micro(accumulate))
