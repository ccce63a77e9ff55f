"""A mixture of experts: its kernel gives what plain products give."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from random_params import random_params

from selfevo_jax.model import ExpertMesh, ModelConfig
from selfevo_jax.model.experts import mixture
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh

CONFIG = ModelConfig(64, 128, 1, 2, 1, 64, 128, n_experts=4, experts_per_token=2)


def test_the_kernel_gives_the_states_and_gradients_of_plain_products() -> None:
    mlp = random_params(CONFIG, scale=0.1)["layers_0"]["mlp"]
    matrices = {name: mlp[name] for name in ("gate", "up", "down")}
    x, by_out = np.random.default_rng(1).normal(size=(2, 2, 7, 128)).astype(np.float32)

    def results(on, *given):
        out, pull = jax.vjp(functools.partial(mixture, CONFIG, jnp.float32, on), *given)
        return out, *pull(by_out)

    both = jax.jit(
        lambda *given: [results(on, *given) for on in (ExpertMesh(), ExpertMesh(by_kernel=True, interpret=True))]
    )
    plain, kernel = both(x, mlp["router"], matrices)
    top = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * top), kernel, plain)


def test_experts_lie_where_heads_do_and_are_whole_where_they_do_not_divide() -> None:
    mesh = make_mesh(1, 2, 4)
    for rules in (TRAIN_RULES, DECODE_RULES):
        assert ExpertMesh.of(CONFIG, mesh, rules) == ExpertMesh(mesh, ("slice", "data", "fsdp"), ("tensor",))
        assert ExpertMesh.of(CONFIG, make_mesh(1, 1, 8), rules).expert_axes == ()
    assert ExpertMesh.of(CONFIG, None, DECODE_RULES) is None
    assert ExpertMesh.of(ModelConfig(64, 32, 1, 2, 1, 16, 32), mesh, TRAIN_RULES) is None
