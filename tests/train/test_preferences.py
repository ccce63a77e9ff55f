"""Objectives on pairs and on single answers: the numbers of their formulas, and the gradient of whole logits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import log_sigmoid, sigmoid
from objective_helpers import CONFIG, LENGTH, MODEL, sums_of
from random_params import random_params
from train_helpers import assert_close

from selfevo_jax.data import Batch, Batches, Example, Group, fit_length, pack
from selfevo_jax.data.packing import fill_rows
from selfevo_jax.errors import ConfigError
from selfevo_jax.train import ObjectiveSection, Targets, open_objective
from selfevo_jax.train.objectives.cpl import Cpl
from selfevo_jax.train.objectives.head import targets_of
from selfevo_jax.train.objectives.kto import MISMATCHED, VERDICT, Kto
from selfevo_jax.train.objectives.pairs import SIDE, ApoZero, Cdpo, Dpo, DpoNorm, Hinge, Ipo, Robust
from selfevo_jax.train.objectives.xpo import OF_REFERENCE, Xpo

REFERENCE = "reference"
PARAMS = random_params(CONFIG, scale=0.3)


def objective(name, **settings):
    return open_objective(ObjectiveSection(name=name, settings=settings))


def targets(extras):
    """A row of two sequences, with two and five targets, and one place of padding."""
    ids = np.array([[1, 1, 2, 2, 2, 2, 2, 0]], np.int32)
    by_place = {name: np.array([[*[a] * 2, *[b] * 5, 0]], np.float32) for name, (a, b) in extras.items()}
    return Targets(np.array((ids > 0).astype(np.float32)), ids, by_place)


LOGPS = np.array([[*[-4 / 2] * 2, *[-6 / 5] * 5, 0.0]], np.float32)
"""Of the row: -4 and -6."""
PAIRS = {
    "dpo": (objective("dpo"), 0.620957, (-0.046257, 0.046257), 0.693147),
    "cdpo": (objective("cdpo", label_smoothing=0.1), 0.635957, (-0.036257, 0.036257), 0.693147),
    "robust": (objective("robust", label_smoothing=0.1), 0.602207, (-0.058757, 0.058757), 0.693147),
    "ipo": (objective("ipo"), 19.36, (-4.4, 1.76), 25),
    "hinge": (objective("hinge"), 0.85, (-0.1, 0.1), 1),
    "apo_zero": (objective("apo_zero"), 0.962523, (-0.024938, 0.024984), 1),
    "dpo with an NLL term": (objective("dpo", nll_weight=1.0), 2.620957, (-0.546257, 0.046257), 2.693147),
    "dpo_norm": (objective("dpo_norm"), 0.663597, (-0.024250, 0.009700), 0.693147),
    "xpo": (objective("xpo"), 0.620897, (-0.046257, 0.046267), 0.693087),
    "xpo that explores": (objective("xpo", alpha=0.1), 0.020957, (-0.046257, 0.146257), 0.0931472),
    "cpl": (objective("cpl"), 0.744397, (-0.052498, 0.026249), 0.744397),
    "cpl of equal weights": (objective("cpl", worse_weight=1), 0.598139, (-0.045017, 0.045017), 0.598139),
    "cpl by token": (objective("cpl", by_token=True), 0.765595, (-0.026747, 0.005349), 0.765595),
}
"""Objective; for d of 1 and -0.5 the loss and its slopes by the log-probabilities of both answers; the loss for d of 0,
with which training starts."""


def of_kto(estimate, **settings):
    """The loss of sequences with d of 1 and -0.5; beside them two mismatched ones with this d, in their own row."""
    extras = {VERDICT: (1, -1), MISMATCHED: (0, 0), REFERENCE: (-5, -5.5)}
    apart = {VERDICT: (0, 0), MISMATCHED: (1, 1), REFERENCE: (-4 - estimate, -6 - estimate)}
    rows = jax.tree.map(lambda *x: np.concatenate(x), targets(extras), targets(apart))
    return objective("kto", **settings).loss(jnp.concatenate([LOGPS, LOGPS]), rows)


@pytest.fixture(scope="module")
def found():
    """All of it as one program."""
    given = {SIDE: (1, -1), OF_REFERENCE: (0, 1)}
    pair, at_start = (targets({**given, REFERENCE: of}) for of in ((-5, -5.5), (-4, -6)))
    plain = targets({SIDE: (0, 0), VERDICT: (0, 0), MISMATCHED: (0, 0), REFERENCE: (-9, -9)})
    start = targets({VERDICT: (1, -1), MISMATCHED: (0, 0), REFERENCE: (-4, -6)})

    def everything(logps):
        made = {name: jax.value_and_grad(of.loss, has_aux=True)(logps, pair) for name, (of, *_) in PAIRS.items()}
        return {
            "pairs": made,
            "start": {name: of.loss(logps, at_start)[0] for name, (of, *_) in PAIRS.items()},
            "figures": [of.figures(logps, given) for of, given in ((Dpo(), pair), (Cpl(), pair), (Dpo(), plain))],
            "plain": {of.name: of.loss(logps, plain) for of in (Dpo(), Kto())},
            "kto": [of_kto(0.5), of_kto(0.5, desirable_weight=2), of_kto(0.5, undesirable_weight=2)],
            "kto at its start": Kto().loss(logps, start),
            "kto clamped": [of_kto(-0.3), of_kto(0.0)],
            "kto's figures": Kto().figures(
                logps, targets({VERDICT: (1, -1), MISMATCHED: (0, 0), REFERENCE: (-5, -5.5)})
            ),
        }

    return jax.device_get(jax.jit(everything)(LOGPS))


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_has_the_loss_and_the_slopes_that_are_found_by_hand(found, name):
    _, value, slopes, start = PAIRS[name]
    (loss, count), by = found["pairs"][name]
    assert (float(loss), float(count)) == (pytest.approx(value, abs=1e-6), 1)
    np.testing.assert_allclose(by, [[*[slopes[0]] * 2, *[slopes[1]] * 5, 0]], atol=1e-6)
    assert float(found["start"][name]) == pytest.approx(start, rel=1e-6)


def test_the_step_log_has_both_sides_of_pairs_apart_and_the_share_that_fell_below_the_start(found):
    of_dpo, of_cpl, of_plain = found["figures"]
    np.testing.assert_allclose(of_dpo, [[-4, 1], [-6, 1], [0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(of_cpl, of_dpo[:2])  # nothing to fall below
    np.testing.assert_array_equal(of_plain[:, 1], 0)
    assert Dpo.shows == ("better_logp", "worse_logp", "better_below_reference")


def test_an_answer_goes_up_or_down_by_its_verdict_against_how_far_the_model_has_gone(found):
    (both, count), (good, _), (bad, _) = found["kto"]
    assert (float(both) / 2, float(count)) == (pytest.approx(0.481262, abs=1e-6), 2)
    assert float(good - both) == pytest.approx(0.487503, abs=1e-6)
    assert float(bad - both) == pytest.approx(0.475021, abs=1e-6)
    below, at_zero = found["kto clamped"]
    assert below == at_zero
    assert float(found["kto at its start"][0]) / 2 == pytest.approx(0.5, abs=1e-6)
    np.testing.assert_allclose(found["kto's figures"], [[1, 1], [-0.5, 1]], rtol=1e-6)


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_what_is_no_pair_is_learnt_by_its_mean_and_counts_as_one(found, name):
    loss, count = found["plain"][name]
    assert (float(loss), float(count)) == (pytest.approx(4 / 2 + 6 / 5), 2)


def make_units(count, seed=0):
    """Pairs, and of every four units one answer that is learnt as it is, and one that is mismatched."""
    rng = np.random.default_rng(seed)

    def example(id, side, apart=0.0):
        size = int(rng.choice([4, 7, 10]))
        tokens, weights = rng.integers(0, 32, size), np.arange(size) >= size // 2
        extras = {SIDE: side, REFERENCE: -rng.uniform(1, 20), VERDICT: side, MISMATCHED: apart}
        extras[OF_REFERENCE] = float(size == 7)
        return Example(id, "x", tokens.astype(np.int32), weights.astype(np.float32), extras)

    def unit(n):
        if n % 4 < 2:
            return example(f"{n}", 0.0, float(n % 4))
        return Group((example(f"{n}+", 1.0), example(f"{n}-", -1.0)))

    return [unit(n) for n in range(count)]


def formula(of, examples, s, n):
    """The sum of losses, written out once more, of the sums and numbers of targets of examples."""
    names = (REFERENCE, SIDE, MISMATCHED, OF_REFERENCE)
    reference, side, apart, drawn = (np.array([e.extras[name] for e in examples]) for name in names)
    better, d, nll = np.flatnonzero(side > 0), s - reference, -s / n
    if isinstance(of, Kto):
        z = jnp.maximum(jax.lax.stop_gradient(d[apart == 1]).mean(), 0)
        assert len(d[apart == 1]) > 1
        judged = 1 - sigmoid(of.beta * side * (d - z))
        return jnp.where(side == 0, nll * (1 - apart), judged).sum()
    h, mean = d[better] - d[better + 1], (d / n)[better] - (d / n)[better + 1]
    e = getattr(of, "label_smoothing", 0.0)
    right, wrong = -(1 - e) * log_sigmoid(of.beta * h), -e * log_sigmoid(-of.beta * h)
    alpha, worse_weight = getattr(of, "alpha", 0.0), getattr(of, "worse_weight", 1.0)
    by_pair = {
        "dpo": right,
        "dpo_norm": -log_sigmoid(of.beta * mean),
        "xpo": right + alpha * ((drawn * s)[better] + (drawn * s)[better + 1]),
        "cpl": -log_sigmoid(of.beta * (s[better] - worse_weight * s[better + 1])),
        "cdpo": right + wrong,
        "robust": (right - wrong) / (1 - 2 * e),
        "ipo": (mean - 0.5 / of.beta) ** 2,
        "hinge": jnp.maximum(0, 1 - of.beta * h),
        "apo_zero": 1 - sigmoid(of.beta * d[better]) + sigmoid(of.beta * d[better + 1]),
    }[of.name]
    return (by_pair + of.nll_weight * nll[better]).sum() + nll[side == 0].sum()


def examples_of(units):
    return [example for unit in units for example in unit.members]


def naive(forms, params, units):
    """Of each form value and gradient, each example in a row of its own, padded to ten tokens; whole logits."""
    examples = examples_of(units)
    rows = fill_rows([[e] for e in examples], 10)

    def losses(p):
        logits, _ = MODEL.apply({"params": p}, rows.tokens, rows.positions)
        taken = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), rows.tokens[:, 1:, None], axis=-1)[..., 0]
        sums = (taken * rows.weights[:, 1:]).sum(axis=1), rows.weights[:, 1:].sum(axis=1)
        return [formula(of, examples, *sums) for of in forms]

    values, pull = jax.vjp(losses, params)
    return {
        of.name: (value, pull([jnp.float32(other is of) for other in forms])[0])
        for of, value in zip(forms, values, strict=True)
    }


def packed_of(units, packing="tight"):
    rows, by_id = pack(units, LENGTH, packing), {unit.id: unit for unit in units}
    of_rows = [[by_id[name] for name in ids if name in by_id] for ids in rows.ids]
    return fill_rows(of_rows, LENGTH, (SIDE, REFERENCE, VERDICT, MISMATCHED, OF_REFERENCE))


UNITS = make_units(14)
ALL = [
    Dpo(nll_weight=0.5),
    Cdpo(label_smoothing=0.2),
    Robust(beta=0.3),
    Ipo(beta=0.2),
    Hinge(),
    ApoZero(),
    DpoNorm(),
    Xpo(alpha=0.05),
    Cpl(nll_weight=0.5),
    Kto(),
]
MODELS = [ALL[0], ALL[-1]]
"""Those that are held against the whole model: one on pairs, and one with a figure of all rows."""


@pytest.fixture(scope="module")
def expected():
    return jax.jit(lambda params: naive(MODELS, params, UNITS))(PARAMS)


@pytest.mark.parametrize(
    ("of", "packing", "shape", "accumulate"),
    [
        (ALL[0], "tight", (1, 1, 1), 1),
        (ALL[0], "none", (1, 1, 1), 1),
        (ALL[0], "tight", (8, 1, 1), 2),
        (ALL[-1], "tight", (8, 1, 1), 1),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_the_gradient_is_that_of_whole_logits_however_pairs_lie_in_rows_and_on_devices(
    expected, of, packing, shape, accumulate
):
    value, gradient = expected[of.name]
    sums = sums_of(of, PARAMS, packed_of(UNITS, packing), shape, accumulate)
    assert float(sums.loss) == pytest.approx(float(value), rel=1e-5)
    assert float(sums.weight) == (len(UNITS) if of.name == "dpo" else sum(not e.extras[MISMATCHED] for e in EXAMPLES))
    assert_close(sums.gradient, gradient)


EXAMPLES = examples_of(UNITS)


def test_every_form_has_the_gradient_of_whole_logits():
    packed, rng = packed_of(UNITS), np.random.default_rng(1)
    batch = Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions, packed.extras)
    logits = rng.normal(size=(*packed.tokens.shape, 32)).astype(np.float32)
    at = {name: n for n, name in enumerate(e.id for e in EXAMPLES)}
    # the place in EXAMPLES of the example that each target belongs to; of padding the one behind the last
    owner = np.full(packed.tokens.shape, len(EXAMPLES))
    for row, ids in enumerate(packed.ids):
        for segment, name in enumerate(ids, start=1):
            owner[row][packed.segment_ids[row] == segment] = at[name]

    def taken(logits):
        logps = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), packed.tokens[:, 1:, None], axis=-1)[..., 0]
        return logps * (packed.weights[:, 1:] != 0)

    def whole(logits):
        s = jnp.zeros(len(EXAMPLES) + 1).at[owner[:, 1:]].add(taken(logits) * packed.weights[:, 1:])[:-1]
        n = np.array([e.weights.sum() for e in EXAMPLES])
        return jnp.stack([formula(of, EXAMPLES, s, n) for of in ALL])

    def ours(logits):
        logps = jnp.pad(taken(logits), ((0, 0), (0, 1)))
        return jnp.stack([of.loss(logps, targets_of(batch))[0] for of in ALL])

    def both(logits):
        found = [jax.vjp(made, logits) for made in (whole, ours)]
        return [(values, jax.vmap(pull)(jnp.eye(len(ALL)))[0]) for values, pull in found]

    (values, gradients), (mine, my_gradients) = jax.jit(both)(logits)
    np.testing.assert_allclose(mine, values, rtol=1e-5)
    for one, other in zip(my_gradients, gradients, strict=True):
        assert_close(one, other)


def test_a_pair_is_drawn_laid_in_a_row_and_dropped_as_one():
    pairs = [unit for unit in make_units(40) if len(unit.members) == 2]
    batches = Batches({"x": (pairs, 1.0)}, 4, LENGTH, 0, extras=(SIDE,))
    seen = []
    for step in range(batches.steps_per_epoch):
        batch, ids = batches.at(step)
        for row, names in enumerate(ids):
            sides = [batch.extras[SIDE][row][batch.segment_ids[row] == s + 1][0] for s in range(len(names))]
            assert sides == [1, -1] * (len(names) // 2)
            assert [a[:-1] + "-" for a in names[::2]] == names[1::2]
            seen += names
    assert set(seen) == {e.id for pair in pairs for e in pair.members}
    longest = max(map(len, pairs))
    kept, dropped = fit_length(pairs, longest - 1)
    assert (len(kept) + dropped, dropped) == (len(pairs), sum(len(pair) == longest for pair in pairs))
    bare = replace(pairs[0].members[0], weights=np.zeros(len(pairs[0].members[0]), np.float32))
    assert fit_length([Group((pairs[1].members[0], bare)), pairs[2]], LENGTH) == ([pairs[2]], 1)
    lacking = Group((pairs[0].members[0], replace(pairs[0].members[1], extras={})))
    with pytest.raises(ConfigError, match=r"reads 'side' of each example, but row '2-' of pool 'x' has no such number"):
        Batches({"x": ([lacking], 1.0)}, 4, LENGTH, 0, extras=(SIDE,))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dpo", {"beta": 0}, r"objective.settings.beta of dpo: found 0, expected a number above 0"),
        ("ipo", {"nll_weight": -1}, r"settings.nll_weight of ipo: found -1, expected a number of 0 or more"),
        ("cdpo", {"label_smoothing": 0.5}, r"label_smoothing of cdpo: found 0.5, .* number of 0 or more, below 0.5"),
        ("kto", {"beta": "0.1"}, r"settings.beta of kto: found '0.1', expected a number above 0"),
        ("dpo", {"label_smoothing": 0.1}, r"objective.name: dpo fails: TypeError.*label_smoothing"),
        ("dpo", {"name": "x"}, r"objective.name: dpo fails: TypeError"),
        ("xpo", {"alpha": -1}, r"settings.alpha of xpo: found -1, expected a number of 0 or more"),
        ("cpl", {"by_token": 1}, r"settings.by_token of cpl: found 1, expected true or false"),
        ("pro", {"sft_weight": None}, r"settings.sft_weight of pro: found None, expected a number of 0 or more"),
        ("grpo", {"advantage": "gae"}, r"settings.advantage of grpo: found 'gae', expected grpo or rloo or dr_grpo"),
        ("grpo", {"ratio": "sequence", "loss_aggregation": "token"}, r"found 'token', expected sequence"),
        ("grpo", {"loss_aggregation": "constant"}, r"constant_length of grpo: found 0, expected a whole number of 1"),
        ("grpo", {"clip": 1.0}, r"settings.clip of grpo: found 1.0, expected a number above 0 and below 1"),
        ("self_distillation", {"top_k": 0}, r"settings.top_k of self_distillation: found 0, expected a whole number"),
        ("self_distillation", {"form": "both"}, r"found 'both', expected forward or reverse or jensen_shannon"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_name(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        open_objective(ObjectiveSection(name=name, settings=settings))
