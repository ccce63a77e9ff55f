"""Training: the update does not depend on packing, micro-batches or mesh, and equals a naive loop with optax."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params
from train_helpers import assert_close

from selfevo_jax.data import Batch, Batches, Example, pack
from selfevo_jax.errors import ConfigError, NonFiniteLossError
from selfevo_jax.model import ModelConfig, Transformer, param_shardings
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import TrainConfig, TrainSection, fit, init_state, learning_rates, run_steps, token_loss_sums
from selfevo_jax.train.optimizer import decayed
from selfevo_jax.train.section import train_settings
from selfevo_jax.train.state import Form
from selfevo_jax.train.step import gradient_sums, make_train_step

CONFIG = ModelConfig(32, 16, 1, 4, 2, 8, 32, max_position=64, qkv_bias=True)
ROWS, LENGTH = 16, 24
SETTINGS = TrainConfig(
    steps=6, warmup_steps=2, learning_rate=3e-3, batch_rows=ROWS, length=LENGTH, clip_norm=0.5, weight_decay=0.1
)
MODEL = Transformer(CONFIG)


def make_examples(count, seed=0, longest=20):
    rng = np.random.default_rng(seed)
    out = []
    for index in range(count):
        size = int(rng.choice([n for n in (4, 7, 10, 20) if n <= longest]))
        weights = np.where(np.arange(size) < size // 2, 0.0, rng.choice([0.5, 1.0, 2.0], size)).astype(np.float32)
        weights[0] = 0
        out.append(Example(f"row{index}", "x", rng.integers(0, 32, size).astype(np.int32), weights))
    return out


@pytest.fixture(scope="module")
def params():
    return jax.device_get(random_params(CONFIG))


def one_device():
    return make_mesh(1, 1, 1, jax.devices()[:1])


def as_batch(packed):
    return Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions)


@jax.jit
def naive_gradient(params, tokens, weights):
    """Loss and gradient of one example alone in its row: no padding, no segments, a gathered log-softmax."""

    def loss(p):
        logits, _ = MODEL.apply({"params": p}, tokens[None], jnp.arange(tokens.shape[0])[None])
        logprobs = jax.nn.log_softmax(logits[0, :-1].astype(jnp.float32), axis=-1)
        picked = jnp.take_along_axis(logprobs, tokens[1:, None], axis=-1)[:, 0]
        return -(picked * weights[1:]).sum()

    return jax.value_and_grad(loss)(params)


def naive_sums(params, examples):
    total, weight = 0.0, 0.0
    gradient = jax.tree.map(np.zeros_like, jax.device_get(params))
    for one in examples:
        value, g = jax.device_get(naive_gradient(params, one.tokens, one.weights))
        total += float(value)
        weight += float(one.weights[1:].sum())
        gradient = jax.tree.map(np.add, gradient, g)
    return total, weight, gradient


def divided(tree, by):
    return jax.tree.map(lambda x: x / by, tree)


@functools.cache
def sums_program(mesh):
    form = Form.of(CONFIG, SETTINGS, mesh, TRAIN_RULES)
    return form.learnt, jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))


def sums_on(params, packed, mesh, accumulate=1):
    """Sums of packed rows, filled up with empty rows to 32, so that the tests share their programs."""
    layout, program = sums_program(mesh)
    arrays = [packed.tokens, packed.weights, packed.segment_ids, packed.positions]
    batch = Batch(*(np.pad(x, ((0, 32 - len(x)), (0, 0))) for x in arrays))
    return program(jax.device_put(params, layout), batch.micro(accumulate))


@pytest.mark.parametrize(
    ("shape", "accumulate"),
    [((1, 1, 1), 1), ((1, 1, 1), 2), ((1, 1, 1), 4), ((8, 1, 1), 1), ((1, 8, 1), 2), ((2, 2, 2), 1), ((2, 2, 2), 4)],
)
def test_gradient_does_not_depend_on_packing_micro_batches_or_mesh(params, shape, accumulate):
    examples = make_examples(24)
    packed = pack(examples, LENGTH)
    assert max(len(ids) for ids in packed.ids) > 1
    total, weight, gradient = naive_sums(params, examples)
    mesh = make_mesh(*shape, jax.devices()[: int(np.prod(shape))])
    sums = sums_on(params, packed, mesh, accumulate)
    assert float(sums.loss) == pytest.approx(total, rel=1e-5)
    assert float(sums.weight) == pytest.approx(weight, rel=1e-6)
    assert int(sums.targets) == sum(int((e.weights > 0).sum()) for e in examples)
    assert_close(sums.gradient, gradient)


def test_gradient_packed_equals_unpacked(params):
    examples = make_examples(16, seed=3)
    packed = sums_on(params, pack(examples, LENGTH), one_device())
    alone = sums_on(params, pack(examples, LENGTH, packing="none"), one_device())
    assert_close(packed.gradient, alone.gradient)


def naive_fit(params, batches, examples, settings):
    """The same training by hand, with optax.adamw and its own schedule."""
    by_id = {e.id: e for e in examples}
    warmup, steps, peak = settings.warmup_steps, settings.steps, settings.learning_rate

    def rate(count):
        count = count + 1
        share = (count - warmup) / (steps - warmup)
        cosine = settings.end_fraction + (1 - settings.end_fraction) * 0.5 * (1 + jnp.cos(jnp.pi * share))
        return peak * jnp.where(count < warmup, count / max(warmup, 1), cosine)

    mask = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in {"kernel", "embedding"}, params)
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            rate, b1=settings.b1, b2=settings.b2, eps=settings.eps, weight_decay=settings.weight_decay, mask=mask
        ),
    )

    @jax.jit
    def updated(gradient, state, params):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state, losses = jax.jit(optimizer.init)(params), []
    for step in range(steps):
        ids = [name for row in batches.at(step)[1] for name in row]
        total, weight, gradient = naive_sums(params, [by_id[name] for name in ids])
        losses.append(total / weight)
        params, state = updated(divided(gradient, weight), state, params)
    return params, losses


def test_fit_equals_a_naive_loop_with_optax_on_every_mesh(params):
    examples = make_examples(70, seed=1)
    batches = Batches({"x": (examples, 1.0)}, ROWS, LENGTH, seed=0)
    settings = dataclasses.replace(SETTINGS, steps=4)
    expected, losses = naive_fit(params, batches, examples, settings)
    for shape, accumulate in [((1, 1, 1), 1), ((2, 2, 2), 2), ((8, 1, 1), 1)]:
        mesh = make_mesh(*shape, jax.devices()[: int(np.prod(shape))])
        got, report = fit(params, CONFIG, batches, dataclasses.replace(settings, accumulate=accumulate), mesh)
        np.testing.assert_allclose(report.losses, losses, rtol=1e-5)
        # Adam divides by the root of squared gradients, so entries whose gradient is all rounding move at will
        assert_close(got, expected, relative=2e-4)
        assert jax.tree.leaves(got)[0].sharding.mesh.shape == mesh.shape


def test_c23_sums_over_sums_across_micro_batches():
    shares = [[[np.exp(-4.0), 1 - np.exp(-4.0)]] * 6, [[np.exp(-1.0), 1 - np.exp(-1.0)]] * 6]
    logits = np.log(np.array(shares, np.float32))
    weights = np.array([[0, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1]], np.float32)
    zeros = np.zeros((2, 6), np.int32)
    batch = Batch(zeros, weights, zeros, zeros)
    halves = [Batch(*(x[rows] for x in batch.arrays())) for rows in (slice(0, 1), slice(1, 2))]
    sums = jax.jit(token_loss_sums)
    parts = [sums(rows, half) for rows, half in zip((logits[:1], logits[1:]), halves, strict=True)]
    assert sum(p[0] for p in parts) / sum(p[1] for p in parts) == pytest.approx(1.5, rel=1e-6)
    whole = sums(logits, batch)
    assert whole[0] / whole[1] == pytest.approx(1.5, rel=1e-6)


def test_c23_the_update_does_not_depend_on_uneven_micro_batches(params):
    one, five = make_examples(2, seed=5, longest=12)
    one = Example("one", "x", one.tokens, np.eye(1, len(one), 2, dtype=np.float32)[0])
    packed = pack([one, five], LENGTH, packing="none")
    apart = np.arange(ROWS) % (ROWS // 2) == 0  # a row in each half, the others empty
    batch = Batch(*(np.zeros((ROWS, LENGTH), x.dtype) for x in as_batch(packed).arrays()))
    for whole, rows in zip(batch.arrays(), as_batch(packed).arrays(), strict=True):
        whole[apart] = rows
    results = []
    for accumulate in (1, 2):
        settings = dataclasses.replace(SETTINGS, accumulate=accumulate)
        state = init_state(params, CONFIG, settings, one_device())
        step = make_train_step(CONFIG, settings, one_device())
        results.append(step(state, batch.micro(accumulate), np.float32(1e-3)))
    assert float(results[0][1]["loss"]) == pytest.approx(float(results[1][1]["loss"]), rel=1e-6)
    assert_close(results[0][0].params, results[1][0].params, relative=1e-5)


def test_c24_a_packed_neighbour_does_not_move_the_loss(params):
    first, second = make_examples(2, seed=8, longest=10)
    silent = np.zeros(len(first), np.float32)
    losses = []
    for shift in (0, 7):
        neighbour = Example("a", "x", (first.tokens + shift) % 32, silent)
        packed = pack([neighbour, second], LENGTH)
        assert packed.tokens.shape[0] == 1
        losses.append(float(sums_on(params, packed, one_device()).loss))
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(naive_sums(params, [second])[0], rel=1e-5)


def test_c19_the_first_answer_token_is_predicted_from_the_last_prompt_token(params):
    tokens = np.array([3, 4, 5, 6, 7, 8, 9], np.int32)
    one = Example("a", "x", tokens, np.array([0, 0, 0, 0, 1, 1, 1], np.float32))
    sums = sums_on(params, pack([one], LENGTH), one_device())
    logits, _ = jax.jit(MODEL.apply)({"params": params}, tokens[None], np.arange(7)[None])
    logits = np.asarray(logits[0], np.float64)
    expected = (np.log(np.exp(logits).sum(-1))[3:6] - logits[[3, 4, 5], tokens[4:]]).sum()
    assert (int(sums.targets), float(sums.weight)) == (3, 3.0)
    assert float(sums.loss) == pytest.approx(float(expected), rel=1e-5)


def test_c25_learning_rates_are_a_function_of_the_step(params):
    batches = Batches({"x": (make_examples(40), 1.0)}, ROWS, LENGTH, seed=0)
    settings = dataclasses.replace(SETTINGS, steps=10, schedule="linear", warmup_steps=2, end_fraction=0.0)
    expected = [1.5e-3, 3e-3, *(3e-3 * (8 - i) / 9 for i in range(8))]  # 0 comes after the last step
    np.testing.assert_allclose(learning_rates(settings), expected, rtol=1e-5, atol=1e-9)
    state = init_state(params, CONFIG, settings, one_device())
    state, before = run_steps(state, CONFIG, batches, settings, one_device(), until=5)
    _, after = run_steps(state, CONFIG, batches, settings, one_device())
    np.testing.assert_array_equal(before.learning_rates + after.learning_rates, learning_rates(settings))
    cosine = learning_rates(dataclasses.replace(settings, schedule="cosine", end_fraction=0.1, warmup_steps=0))
    assert cosine[-1] == pytest.approx(3e-4)
    assert (np.diff(cosine) < 0).all()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_step_trains_also_where_the_rate_ends_at_zero(schedule, steps):
    rates = learning_rates(TrainConfig(steps=steps, warmup_steps=0, schedule=schedule, end_fraction=0.0))
    assert rates.shape == (steps,)
    assert (rates > 0).all()


def test_a_warm_up_that_the_config_does_not_name_fits_the_steps():
    found = [train_settings(TrainSection(steps=n), 0).warmup_steps for n in (1, 4, 9, 60, 150, 1000)]
    assert found == [0, 0, 1, 12, 20, 20]
    with pytest.raises(ConfigError, match="warmup_steps is 9, expected 0 to 8"):
        train_settings(TrainSection(steps=9, warmup_steps=9), 0)


def test_c26_stopping_and_going_on_equals_one_run(params):
    batches = Batches({"x": (make_examples(40), 1.0)}, ROWS, LENGTH, seed=0)
    straight, report = fit(params, CONFIG, batches, SETTINGS, one_device())
    state, first = run_steps(
        init_state(params, CONFIG, SETTINGS, one_device()), CONFIG, batches, SETTINGS, one_device(), until=3
    )
    kept = jax.tree.map(jnp.asarray, jax.device_get(state))
    again = Batches({"x": (make_examples(40), 1.0)}, ROWS, LENGTH, seed=0)
    state, second = run_steps(kept, CONFIG, again, SETTINGS, one_device())
    assert first.losses + second.losses == report.losses
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), jax.device_get(straight))


def test_fit_leaves_the_given_parameters_alone_and_reports_each_step(params):
    before = jax.tree.map(np.array, params)  # a copy: a device of a CPU may take the arrays as they are
    steps = []
    batches = Batches({"x": (make_examples(40), 1.0)}, ROWS, LENGTH, seed=0)
    given = jax.device_put(params, param_shardings(CONFIG, one_device(), TRAIN_RULES))
    got, report = fit(
        given, CONFIG, batches, SETTINGS, one_device(), on_step=lambda step, metrics: steps.append((step, metrics))
    )
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(given), before)
    assert [step for step, _ in steps] == list(range(SETTINGS.steps))
    assert report.steps == SETTINGS.steps
    assert [m["loss"] for _, m in steps] == report.losses
    assert report.tokens == sum(int((batches.at(s)[0].segment_ids > 0).sum()) for s in range(SETTINGS.steps))
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype("float32")}


def test_a_non_finite_loss_names_step_and_rows_and_returns_nothing(params):
    batches = Batches({"x": (make_examples(40), 1.0)}, ROWS, LENGTH, seed=0)

    class Poisoned:
        def at(self, step):
            batch, ids = batches.at(step)
            return (
                (batch.replace(weights=np.where(batch.weights > 0, np.float32("inf"), 0)), ids)
                if step == 3
                else (batch, ids)
            )

    names = [name for row in batches.at(3)[1] for name in row]
    with pytest.raises(NonFiniteLossError, match=f"step 3: .*rows: {names[0]}, {names[1]}"):
        fit(params, CONFIG, Poisoned(), SETTINGS, one_device())
    poisoned = jax.tree.map(lambda x: x * np.float32("nan"), params)
    with pytest.raises(NonFiniteLossError, match="step 0: the loss is nan"):
        fit(poisoned, CONFIG, batches, SETTINGS, one_device())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_falls_on_a_memorisation_task(params, dtype):
    examples = [
        Example(
            str(i), "x", np.array([i, 30, *((i * 7 + k * k) % 29 for k in range(5))], np.int32), np.r_[[0, 0], [1] * 5]
        )
        for i in range(8)
    ]
    batches = Batches({"x": (examples, 1.0)}, ROWS, LENGTH, seed=0)
    settings = dataclasses.replace(SETTINGS, steps=80, warmup_steps=5, learning_rate=1e-2, compute_dtype=dtype)
    _, report = fit(params, CONFIG, batches, settings, one_device())
    assert report.losses[0] > 3
    assert report.losses[-1] < 0.3


def test_weight_decay_spares_norms_and_biases(params):
    flat = {jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(decayed(params))}
    assert not any(value for name, value in flat.items() if "scale" in name or "bias" in name)
    assert all(value for name, value in flat.items() if "kernel" in name or "embedding" in name)


def test_one_program_serves_runs_that_differ_in_their_schedule():
    other = dataclasses.replace(SETTINGS, steps=50, learning_rate=1e-4, schedule="linear", seed=3)
    mesh = one_device()
    assert make_train_step(CONFIG, SETTINGS, mesh) is make_train_step(CONFIG, other, mesh)


def test_settings_that_cannot_work_are_refused(params):
    with pytest.raises(ConfigError, match="batch_rows 12 do not divide over 8 devices.*use 8 or 16"):
        make_train_step(CONFIG, dataclasses.replace(SETTINGS, batch_rows=12), make_mesh(8, 1, 1))
    with pytest.raises(ConfigError, match="warmup_steps is 20, expected 0 to 9"):
        TrainConfig(steps=10)
    for wrong in ({"b1": 1.0}, {"b2": 1.0}, {"b2": float("nan")}, {"learning_rate": 20.0, "weight_decay": 0.1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            TrainConfig(**wrong)
    with pytest.raises(ConfigError, match="accumulate"):
        TrainConfig(batch_rows=4, accumulate=3)
    wild = Example("wild", "x", np.array([1, 99], np.int32), np.array([0, 1], np.float32))
    with pytest.raises(ConfigError, match="token id 99 in rows wild"):
        fit(params, CONFIG, Batches({"x": ([wild], 1.0)}, ROWS, LENGTH, 0), SETTINGS, one_device())
    with pytest.raises(ConfigError, match=r"shape \(2, 24\), expected \(16, 24\)"):
        fit(params, CONFIG, Batches({"x": (make_examples(3), 1.0)}, 2, LENGTH, 0), SETTINGS, one_device())
