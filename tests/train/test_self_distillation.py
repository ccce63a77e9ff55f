"""A teacher that is the model itself behind another context: what it says is read once, and learnt token by token."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from objective_helpers import CONFIG, LENGTH, MODEL
from random_params import random_params
from train_helpers import assert_close

from selfevo_jax.data import Batch, Batches, Example
from selfevo_jax.data.packing import fill_rows
from selfevo_jax.errors import ConfigError
from selfevo_jax.sharding import make_mesh
from selfevo_jax.train import (
    ObjectiveSection,
    Targets,
    TrainConfig,
    fit,
    lower_train_step,
    open_objective,
    start_extras,
    with_extras,
)
from selfevo_jax.train.loss import HeadLoss, shifted
from selfevo_jax.train.objectives.head import objective_sums, targets_of
from selfevo_jax.train.objectives.self_distillation import TAUGHT, SelfDistillation

FORMS = ("forward", "reverse", "jensen_shannon")
PARAMS = random_params(CONFIG, scale=0.5)
BY_HAND = {"forward": 0.218012, "reverse": 0.239278, "jensen_shannon": 0.055582}
"""For T (.5, .3, .2) and S (.25, .25, .5), of which the last is the rest."""


def objective(form="reverse", top_k=4):
    return open_objective(ObjectiveSection(name="self_distillation", settings={"form": form, "top_k": top_k}))


def example(id, sizes, seen=0, taught=1.0, seed=0):
    """So many tokens of a prompt and of an answer; the teacher reads `seen` more before the answer."""
    rng = np.random.default_rng(seed)
    prompt, answer, more = (rng.integers(0, 32, n).astype(np.int32) for n in (*sizes, seen))
    weights = [np.repeat([0, 1], [n, len(answer)]).astype(np.float32) for n in (len(prompt), len(prompt) + seen)]
    teacher = Example(id, "x", np.concatenate([prompt, more, answer]), weights[1])
    return Example(id, "x", np.concatenate([prompt, answer]), weights[0], {TAUGHT: taught}, teacher)


def filled(examples, of, params=PARAMS):
    """With what the teacher says."""
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    settings = TrainConfig(batch_rows=2, length=LENGTH, objective=of)
    read = start_extras(params, CONFIG, examples, mesh, settings)
    return [dataclasses.replace(e, extras=with_extras(e, r)) for e, r in zip(examples, read, strict=True)]


@functools.cache
def lessons():
    made = [example(f"{n}", (3, 4 + n), seen=5 * n, seed=n) for n in range(4)]
    return filled([*made, example("long", (4, 5), seen=40, seed=9)], objective())


def test_what_the_teacher_says_is_that_of_whole_logits_behind_its_own_context():
    for lesson in lessons():
        tokens = np.pad(lesson.teacher.tokens, (0, 64 - len(lesson.teacher)))[None]
        logits, _ = whole(tokens, np.arange(64)[None])
        answer = np.flatnonzero(lesson.teacher.weights)
        logps = jax.nn.log_softmax(logits[0])[answer - 1]
        expected = np.argsort(-logps, axis=1)[:, :4]
        targets = lesson.weights != 0
        np.testing.assert_array_equal(lesson.extras["teacher_ids"][targets], expected)
        np.testing.assert_allclose(
            lesson.extras["teacher_logps"][targets], np.take_along_axis(logps, expected, 1), rtol=1e-5
        )
        assert not lesson.extras["teacher_ids"][~targets].any()


@jax.jit
def whole(tokens, positions):
    return MODEL.apply({"params": PARAMS}, tokens, positions)


def test_a_form_has_the_loss_and_the_gradient_of_whole_logits_through_the_head_on_a_divided_vocabulary():
    plain = dataclasses.replace(example("plain", (4, 6), taught=0.0, seed=7), teacher=None)
    nothing = {TAUGHT: 0.0, "teacher_ids": 0.0, "teacher_logps": 0.0}
    rows = [list(lessons()[:2]), list(lessons()[2:3]), [lessons()[3]], [dataclasses.replace(plain, extras=nothing)]]
    reads = objective().reads
    packed = fill_rows(rows, LENGTH, reads, {"teacher_ids": 4, "teacher_logps": 4})
    batch = Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions, packed.extras)
    rng = np.random.default_rng(1)
    states, table = rng.normal(size=(4, LENGTH, 8)).astype(np.float32), rng.normal(size=(32, 8)).astype(np.float32)
    mesh = make_mesh(2, 1, 4)
    layout = NamedSharding(mesh, PartitionSpec("tensor"))
    head = HeadLoss(True, layout, ("data",), budget=1, least_chunk=11)

    def naive(form, states, table):
        logps = jax.nn.log_softmax(states @ table.T)[:, :-1]
        student = jnp.take_along_axis(logps, packed.extras["teacher_ids"][:, 1:].astype(int), axis=2)
        teacher = packed.extras["teacher_logps"][:, 1:]

        def with_rest(x):
            return jnp.concatenate([jnp.exp(x), jnp.maximum(1 - jnp.exp(x).sum(-1, keepdims=True), 1e-6)], axis=-1)

        t, s = with_rest(teacher), with_rest(student)
        m = (t + s) / 2
        by_token = {
            "forward": (t * jnp.log(t / s)).sum(-1),
            "reverse": (s * jnp.log(s / t)).sum(-1),
            "jensen_shannon": ((t * jnp.log(t / m)).sum(-1) + (s * jnp.log(s / m)).sum(-1)) / 2,
        }[form]
        own = jnp.take_along_axis(logps, packed.tokens[:, 1:, None], axis=2)[..., 0]
        by_token = jnp.where(packed.extras[TAUGHT][:, 1:] > 0, by_token, -own)
        return (packed.weights[:, 1:] * by_token).sum()

    def direct(form, states, table):
        logps = jax.nn.log_softmax(states @ table.T)[:, :-1]
        ids = np.concatenate([batch.tokens[:, 1:, None], batch.extras["teacher_ids"][:, 1:].astype(int)], axis=2)
        logps = jnp.take_along_axis(logps, ids, axis=2) * (batch.weights[:, 1:, None] != 0)
        return objective(form).loss(jnp.pad(logps, ((0, 0), (0, 1), (0, 0))), targets_of(batch))[0]

    def fused(form, states, table):
        return objective_sums(objective(form), head, states, table, batch)[0]

    ways = [*[(direct, form) for form in FORMS], (fused, "reverse")]

    @jax.jit
    def everything(states, table):
        def of(way, form):
            return jax.value_and_grad(functools.partial(way, form), (0, 1))(states, table)

        likeliest = head.likeliest(states, table, shifted(batch)[1], 12)  # more than a device has tokens
        whole = jax.lax.top_k(jax.nn.log_softmax(states @ table.T), 12)
        return [of(*way) for way in ways], {form: of(naive, form) for form in FORMS}, likeliest, whole

    found, expected, (ids, logps), (top, top_ids) = everything(states, jax.device_put(table, layout))
    for (value, by), (_, form) in zip(found, ways, strict=True):
        assert float(value) == pytest.approx(float(expected[form][0]), rel=1e-5)
        assert_close(by, expected[form][1])
    there = np.roll(packed.weights != 0, -1, axis=1)[..., None]
    np.testing.assert_array_equal(ids, np.where(there, top_ids, 0))
    np.testing.assert_allclose(logps, np.where(there, top, 0), rtol=1e-5, atol=2e-6)  # of logits around 10


def test_a_form_has_the_loss_that_is_found_by_hand():
    numbers = {TAUGHT: np.ones((1, 1)), "teacher_ids": np.zeros((1, 1, 2)), "teacher_logps": np.log([[[0.5, 0.3]]])}
    targets = Targets(np.ones((1, 1), np.float32), np.ones((1, 1), np.int32), numbers)
    logps = np.log([[[0.9, 0.25, 0.25]]]).astype(np.float32)
    found = jax.jit(lambda x: {form: objective(form, 2).loss(x, targets)[0] for form in FORMS})(logps)
    assert {form: float(x) for form, x in found.items()} == pytest.approx(BY_HAND, abs=1e-6)


def test_a_teacher_that_knows_no_more_teaches_nothing_and_one_that_does_is_approached():
    settings = TrainConfig(
        steps=8, learning_rate=1e-2, warmup_steps=0, batch_rows=2, length=LENGTH, objective=objective("forward")
    )
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    same = filled([example(f"{n}", (3, 6), seed=n) for n in range(4)], settings.objective)
    losses = []
    for given in (same, lessons()[1:4]):
        batches = Batches({"self": (given, 1.0)}, 2, LENGTH, 0, extras=settings.objective.reads)
        losses.append(fit(PARAMS, CONFIG, batches, settings, mesh)[1].losses)
    assert losses[0][0] == pytest.approx(0, abs=1e-6)
    assert losses[1][0] > 0.05
    assert losses[1][-1] < 0.7 * losses[1][0]


def test_a_step_is_lowered_for_a_plan_with_the_tokens_of_the_teacher():
    settings = TrainConfig(batch_rows=2, length=LENGTH, objective=SelfDistillation(top_k=3))
    lowered, _ = lower_train_step(CONFIG, settings, make_mesh(1, 1, 1, jax.devices()[:1]))
    _, batch, _ = lowered.args_info[0]
    shapes = {name: x.shape for name, x in batch.extras.items()}
    wide = (1, 2, LENGTH, 3)
    assert shapes == {TAUGHT: (1, 2, LENGTH), "teacher_ids": wide, "teacher_logps": wide}


def test_an_example_without_a_teacher_or_with_one_of_other_targets_is_refused():
    bare = dataclasses.replace(example("bare", (3, 4)), teacher=None)
    with pytest.raises(ConfigError, match="self_distillation reads the teacher of each example, but row 'bare' has"):
        filled([bare], objective())
    with pytest.raises(ValueError, match="its teacher has other targets"):
        dataclasses.replace(bare, teacher=example("other", (3, 5), seed=1))
