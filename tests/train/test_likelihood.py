"""Log-probabilities of given texts: those of the model itself, however its examples lie in rows and on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from selfevo_jax.data import Example
from selfevo_jax.data.packing import fill_rows
from selfevo_jax.model import ModelConfig, Transformer
from selfevo_jax.sharding import make_mesh
from selfevo_jax.train import likelihood, sequence_logps, token_logps

CONFIG = ModelConfig(32, 16, 2, 2, 1, 8, 24, max_position=64)
PARAMS = random_params(CONFIG, scale=0.3)


def examples(count: int) -> list[Example]:
    rng = np.random.default_rng(1)
    sizes = rng.integers(2, 60, count)
    weights = [(np.arange(size) >= 1 + size // 2).astype(np.float32) for size in sizes]
    tokens = [rng.integers(0, 32, size).astype(np.int32) for size in sizes]
    return [Example(str(n), "qa", *both) for n, both in enumerate(zip(tokens, weights, strict=True))]


def reference(given: list[Example]) -> np.ndarray:
    """Each example in a row of its own, every logit there."""
    rows = fill_rows([[example] for example in given], 64)
    logits, _ = jax.jit(Transformer(CONFIG).apply)({"params": PARAMS}, rows.tokens, rows.positions)
    logps = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), rows.tokens[:, 1:, None], axis=-1)[..., 0]
    return np.asarray((logps * rows.weights[:, 1:]).sum(axis=1))


@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 2, 2)])
def test_log_probabilities_are_those_of_each_example_alone_on_any_mesh(mesh, monkeypatch) -> None:
    monkeypatch.setattr(likelihood, "TOKENS", 128)  # several batches
    given, done = examples(13), []
    devices = jax.devices()[: int(np.prod(mesh))]
    found = sequence_logps(PARAMS, CONFIG, given, make_mesh(*mesh, devices), on_done=done.append)
    assert done[-1] == len(given)
    assert sorted(done) == done
    np.testing.assert_allclose(found, reference(given), rtol=2e-5)


def test_log_probabilities_of_targets_are_those_of_each_example_alone():
    given = examples(9)
    found = token_logps(PARAMS, CONFIG, given, make_mesh(1, 1, 1, jax.devices()[:1]))
    assert [len(logps) for logps in found] == [np.count_nonzero(e.weights) for e in given]
    np.testing.assert_allclose([logps.sum() for logps in found], reference(given), rtol=2e-5)
    assert all((logps < 0).all() for logps in found)
