"""Objectives on lists: the numbers of their formulas, and the gradient of whole logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_helpers import LENGTH
from train_helpers import assert_close

from selfevo_jax.data import Batch, Example, Group, pack
from selfevo_jax.data.packing import fill_rows
from selfevo_jax.train import ObjectiveSection, Targets, open_objective
from selfevo_jax.train.objectives.head import targets_of
from selfevo_jax.train.objectives.lists import PLACE, VALUE, Copg, D2o, Pro
from selfevo_jax.train.objectives.pairs import SIDE

REFERENCE = "reference"
EXTRAS = (PLACE, VALUE, SIDE, REFERENCE)


def objective(name, **settings):
    return open_objective(ObjectiveSection(name=name, settings=settings))


def row(logps, sizes, **extras):
    """A list of answers with these log-probabilities and numbers of targets, in a row with padding behind it."""
    total = sum(sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    ids = np.pad(owner + 1, (0, 1))[None].astype(np.int32)
    numbers = {"place": np.arange(1, len(sizes) + 1), "value": np.zeros(len(sizes)), **extras}
    by_place = {name: np.pad(np.asarray(x, np.float32)[owner], (0, 1))[None] for name, x in numbers.items()}
    each = np.pad((np.array(logps) / np.array(sizes))[owner], (0, 1))[None].astype(np.float32)
    return each, Targets((ids > 0).astype(np.float32), ids, by_place), total


RANKED = row([-1, -2, -3], [1, 1, 1], value=[2, 1, 0])
LONG = row([-4, -8, -12], [4, 4, 4], value=[2, 1, 0])
SAMPLES = row([-3.8, -4.4, -2.5], [2, 1, 3], side=[1, 1, -1], reference=[-4, -4, -3])
SCORED = row([-3.5, -4.5, -2], [1, 2, 2], value=[1, 0, 0], reference=[-4, -4, -3])
TWO = row([-4, -6], [2, 5], value=[0.5, -0.5], reference=[-5, -5.5])
BY_HAND = {
    "pro": (objective("pro", sft_weight=0.0), RANKED, 1.015525),
    "pro by rank alone": (objective("pro", sft_weight=0.0, by_value=False), RANKED, 0.720868),
    "pro with its SFT term": (objective("pro"), LONG, 1.815525),
    "d2o": (objective("d2o"), SAMPLES, 0.723597),
    "copg": (objective("copg", beta=0.5), SCORED, 1.1875),
    "copg on two is ipo on sums": (objective("copg", beta=1.0), TWO, 0.25),
}


@pytest.fixture(scope="module")
def found():
    """All of it as one program."""

    def everything(logps):
        return {
            name: jax.value_and_grad(of.loss, has_aux=True)(logps[name], targets)
            for name, (of, (_, targets, _), _) in BY_HAND.items()
        }

    return jax.device_get(jax.jit(everything)({name: given[0] for name, (_, given, _) in BY_HAND.items()}))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_list_has_the_loss_that_is_found_by_hand(found, name):
    (loss, count), by = found[name]
    assert (float(loss), float(count)) == (pytest.approx(BY_HAND[name][2], abs=1e-6), 1)
    assert np.isfinite(by).all()
    assert by[0, -1] == 0


def test_a_policy_gradient_on_scores_has_the_slopes_that_are_found_by_hand(found):
    np.testing.assert_allclose(found["copg"][1], [[-0.875, *[-0.125] * 2, *[1.0] * 2, 0]], atol=1e-6)


def make_units(count, seed=0):
    """Lists of two to four answers, and of every three units one answer that is learnt as it is."""
    rng = np.random.default_rng(seed)

    def example(id, place, value, side):
        size = int(rng.choice([3, 4, 5]))
        weights = (np.arange(size) >= size // 2).astype(np.float32)
        extras = {PLACE: place, VALUE: value, SIDE: side, REFERENCE: -rng.uniform(1, 20)}
        return Example(id, "x", rng.integers(0, 32, size).astype(np.int32), weights, extras)

    def unit(n):
        if n % 3 == 0:
            return example(f"{n}", 0, 0.0, 0)
        size = 2 + n % 3
        values = sorted(rng.uniform(0, 3, size), reverse=True)
        return Group(tuple(example(f"{n}.{p}", p + 1, v, 1 if p else -1) for p, v in enumerate(values)))

    return [unit(n) for n in range(count)]


def formula(of, units, s, n):
    """The sum of losses, list by list and answer by answer, of the sums and numbers of targets of all examples."""
    at, total = 0, 0.0
    for unit in units:
        mine, extras = range(at, at + len(unit.members)), [e.extras for e in unit.members]
        at += len(unit.members)
        if len(mine) == 1:
            total -= s[mine[0]] / n[mine[0]]
            continue
        value, d = [e[VALUE] for e in extras], [s[i] - e[REFERENCE] for i, e in zip(mine, extras, strict=True)]
        m, last = [s[i] / n[i] for i in mine], len(mine) - 1
        if of.name == "pro":
            for k in range(last):
                gaps = {j: value[k] - value[j] if of.by_value else 1.0 for j in range(k + 1, last + 1)}
                own = m[k] * max(gaps.values())
                total += jnp.log(1 + sum(jnp.exp(m[j] * gap - own) for j, gap in gaps.items()))
            total -= of.sft_weight * last**2 * s[mine[0]]
        elif of.name == "d2o":
            total -= jax.nn.log_sigmoid(of.beta * sum(d[1:]) / last - of.alpha * d[0])
        else:
            score = [v - of.beta * x for v, x in zip(value, d, strict=True)]
            total += sum((score[i] - score[j]) ** 2 for i in range(last + 1) for j in range(i)) / last
    return total


ALL = [Pro(), Pro(by_value=False, sft_weight=0.2), D2o(alpha=0.3), Copg(beta=0.2)]


@pytest.mark.parametrize("packing", ["tight", "none"])
def test_every_form_has_the_gradient_of_whole_logits_however_lists_lie_in_rows(packing):
    units, rng = make_units(6), np.random.default_rng(1)
    examples, by_id = [e for unit in units for e in unit.members], {unit.id: unit for unit in units}
    rows = [[by_id[name] for name in ids if name in by_id] for ids in pack(units, LENGTH, packing).ids]
    packed = fill_rows([*rows, *[[]] * (len(units) - len(rows))], LENGTH, EXTRAS)  # one shape, whatever the packing
    batch = Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions, packed.extras)
    logits = rng.normal(size=(len(examples), LENGTH, 32)).astype(np.float32)
    owner, place = np.zeros(packed.tokens.shape, int), np.zeros(packed.tokens.shape, int)
    at = {e.id: i for i, e in enumerate(examples)}
    for number, ids in enumerate(packed.ids):
        for segment, name in enumerate(ids, start=1):
            mine = packed.segment_ids[number] == segment
            owner[number][mine], place[number][mine] = at[name], np.arange(mine.sum())
    got = compiled()(logits, batch, owner, place)
    expected = reference()(logits)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
    for one, other in zip(got[1], expected[1], strict=True):
        assert_close(one, other)
    assert got[2].tolist() == [len(units)] * len(ALL)


_CACHE = {}


def compiled():
    def ours(logits, batch, owner, place):
        logps = jnp.take_along_axis(jax.nn.log_softmax(logits[owner, place]), batch.tokens[..., None], axis=-1)[..., 0]
        shifted = jnp.roll(jnp.where(batch.weights != 0, logps, 0.0), -1, axis=1)
        made = [of.loss(shifted, targets_of(batch)) for of in ALL]
        return jnp.stack([total for total, _ in made]), jnp.stack([count for _, count in made])

    def both(logits, batch, owner, place):
        values, pull, counts = jax.vjp(lambda x: ours(x, batch, owner, place), logits, has_aux=True)
        return values, jax.vmap(pull)(jnp.eye(len(ALL)))[0], counts

    return _CACHE.setdefault("ours", jax.jit(both))


def reference():
    def whole(logits):
        units = make_units(6)
        examples = [e for unit in units for e in unit.members]
        logps = jax.nn.log_softmax(logits)
        s = [sum(logps[i, t, e.tokens[t]] for t in np.flatnonzero(e.weights)) for i, e in enumerate(examples)]
        return jnp.stack([formula(of, units, s, [e.weights.sum() for e in examples]) for of in ALL])

    def both(logits):
        values, pull = jax.vjp(whole, logits)
        return values, jax.vmap(pull)(jnp.eye(len(ALL)))[0]

    return _CACHE.setdefault("whole", jax.jit(both))
