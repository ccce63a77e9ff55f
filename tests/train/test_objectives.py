"""Objectives: any function of the log-probabilities of sequences is trained through the fused head, exactly."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from objective_helpers import CONFIG, LENGTH, MODEL, ROWS, sums_of
from train_helpers import assert_close

from selfevo_jax.data import Batch, Batches, Example, pack
from selfevo_jax.data.packing import fill_rows
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import init_params
from selfevo_jax.sharding import make_mesh
from selfevo_jax.train import Targets, TrainConfig, lower_train_step, open_objective
from selfevo_jax.train.loss import HeadLoss
from selfevo_jax.train.objectives import ObjectiveSection, Sft
from selfevo_jax.train.objectives.head import objective_sums


@dataclass(frozen=True)
class Likelier:
    """Not linear: a log-sigmoid of a sequence's mean log-probability, up for good ones and down for bad ones."""

    beta: float = 2.0
    name: str = "likelier"
    reads: tuple[str, ...] = ("good",)
    linear: bool = False

    def loss(self, logps, targets):
        found = targets.sequences(logps)
        mean = found.logps / jnp.maximum(found.weights, 1e-6)
        sign = 2 * found.extras["good"] - 1
        return (found.there * jnp.logaddexp(0.0, -sign * (self.beta * mean + 3))).sum(), found.there.sum()


@dataclass(frozen=True)
class Signed:
    """Linear, with weights of both signs: the log-probability of bad answers is pushed down."""

    name: str = "signed"
    reads: tuple[str, ...] = ("good",)
    linear: bool = True

    def loss(self, logps, targets):
        found = targets.sequences(logps)
        return -((2 * found.extras["good"] - 1) * found.logps).sum(), found.there.sum()


def make_examples(count, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for index in range(count):
        size = int(rng.choice([4, 7, 10]))
        weights = np.where(np.arange(size) < size // 2, 0.0, rng.choice([0.5, 1.0], size)).astype(np.float32)
        tokens = rng.integers(0, 32, size).astype(np.int32)
        out.append(Example(f"row{index}", "x", tokens, weights, {"good": float(index % 3 > 0)}))
    return out


def naive(objective, params, examples):
    """Each example in a row of its own, padded to ten tokens; whole logits; the formula written out once more."""
    rows = fill_rows([[e] for e in examples], 10)
    good = jnp.array([e.extras["good"] for e in examples])

    def loss(p):
        logits, _ = MODEL.apply({"params": p}, rows.tokens, rows.positions)
        logps = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), rows.tokens[:, 1:, None], axis=-1)[..., 0]
        total = (logps * rows.weights[:, 1:]).sum(axis=1)
        score = objective.beta * total / rows.weights[:, 1:].sum(axis=1) + 3
        return -jnp.where(good == 1, jax.nn.log_sigmoid(score), jax.nn.log_sigmoid(-score)).sum()

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.fixture(scope="module")
def params(quick_compiles):
    return init_params(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def expected(params):
    return naive(Likelier(), params, make_examples(14))


def packed_of(examples, packing="tight"):
    rows = pack(examples, LENGTH, packing)
    by_id = {e.id: e for e in examples}
    return fill_rows([[by_id[name] for name in ids] for ids in rows.ids], LENGTH, ("good",))


@pytest.mark.parametrize(
    ("packing", "shape", "accumulate"),
    [("tight", (1, 1, 1), 1), ("none", (1, 1, 1), 1), ("tight", (2, 2, 2), 2)],
)
def test_a_loss_that_is_not_linear_has_the_gradient_of_whole_logits(params, expected, packing, shape, accumulate):
    examples = make_examples(14)
    packed = packed_of(examples, packing)
    assert packing == "none" or max(len(ids) for ids in packed.ids) > 1
    value, gradient = expected
    sums = sums_of(Likelier(), params, packed, shape, accumulate)
    assert float(sums.loss) == pytest.approx(float(value), rel=1e-5)
    assert float(sums.weight) == len(examples)
    assert int(sums.targets) == sum(int((e.weights > 0).sum()) for e in examples)
    assert_close(sums.gradient, gradient)


def test_a_linear_loss_may_weigh_tokens_with_either_sign():
    packed, rng = packed_of(make_examples(14)), np.random.default_rng(1)
    batch = Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions, packed.extras)
    states, table = rng.normal(size=(*packed.tokens.shape, 8)).astype(np.float32), rng.normal(size=(32, 8))
    layout = NamedSharding(make_mesh(1, 1, 1, jax.devices()[:1]), PartitionSpec())

    def whole(states, table):
        logps = jax.nn.log_softmax(states @ table.T)[:, :-1]
        picked = jnp.take_along_axis(logps, packed.tokens[:, 1:, None], axis=-1)[..., 0]
        signs = 2 * packed.extras["good"][:, 1:] - 1
        return -(signs * packed.weights[:, 1:] * picked).sum()

    def fused(states, table):
        head = HeadLoss(True, layout, budget=1, least_chunk=11)
        return objective_sums(Signed(), head, states, table, batch)[0]

    expected, gradient = jax.jit(jax.value_and_grad(whole, (0, 1)))(states, table.astype(np.float32))
    found, by = jax.jit(jax.value_and_grad(fused, (0, 1)))(states, table.astype(np.float32))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert_close(by, gradient)


def test_sequences_are_told_apart_in_a_row_and_carry_the_numbers_of_their_examples():
    weights = np.array([[1, 2, 0, 0.5, 0, 0]], np.float32)
    ids = np.array([[1, 1, 2, 2, 3, 0]], np.int32)
    found = Targets(weights, ids, {"good": np.array([[-3, -3, 7, 7, 9, 0]], np.float32)}).sequences(
        jnp.array([[-1.0, -10.0, -5.0, -4.0, -2.0, -6.0]])
    )
    np.testing.assert_array_equal(found.logps, [[-21, -2, 0, 0, 0, 0]])
    np.testing.assert_array_equal(found.weights, [[3, 0.5, 0, 0, 0, 0]])
    np.testing.assert_array_equal(found.there, [[1, 1, 0, 0, 0, 0]])  # the third has no target
    np.testing.assert_array_equal(found.extras["good"], [[-3, 7, 0, 0, 0, 0]])


def test_a_step_is_lowered_for_a_plan_with_the_numbers_that_its_objective_reads():
    settings = TrainConfig(batch_rows=ROWS, length=LENGTH, objective=Likelier())
    lowered, _ = lower_train_step(CONFIG, settings, make_mesh(1, 1, 1, jax.devices()[:1]))
    _, batch, _ = lowered.args_info[0]
    assert {name: x.shape for name, x in batch.extras.items()} == {"good": (1, ROWS, LENGTH)}


def test_objectives_that_cannot_be_are_refused_with_their_name(params):
    with pytest.raises(ConfigError, match=r"objective.settings: sft has none"):
        open_objective(ObjectiveSection(settings={"beta": 1}))
    with pytest.raises(ConfigError, match=r"objective.name: test_objectives:Likelier fails: TypeError"):
        open_objective(ObjectiveSection(name="test_objectives:Likelier", settings={"gamma": 1}))
    with pytest.raises(ConfigError, match=r"objective likelier: found one that cannot be hashed, expected a frozen"):
        TrainConfig(objective=Likelier(beta=[2]))
    plain = [dataclasses.replace(e, extras={"sure": 1.0}) for e in make_examples(3)]
    with pytest.raises(ConfigError, match=r"reads 'good' .* row 'row0' of pool 'x' has no such number .*has: sure"):
        Batches({"x": (plain, 1.0)}, ROWS, LENGTH, 0, extras=Likelier().reads)
    with pytest.raises(ConfigError, match=r"objective likelier fails: KeyError"):
        sums_of(Likelier(1.5), params, pack(plain, LENGTH))
    assert open_objective(ObjectiveSection()) == Sft()
