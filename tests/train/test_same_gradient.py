"""No objective's gradient depends on how examples lie in rows, on micro-batches, or on devices."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import numpy as np
import pytest
from objective_helpers import CONFIG, LENGTH, ROWS, sums_of
from random_params import random_params
from train_helpers import assert_close

from selfevo_jax.data import Example, Group, pack
from selfevo_jax.data.packing import fill_rows
from selfevo_jax.train import ObjectiveSection, open_objective
from selfevo_jax.train.objectives.section import BUILT_IN

K = 3
READS = "which side place value reference of_reference advantage drawn token_reference taught teacher_ids teacher_logps"
VARIANTS = {
    "dpo": ({"nll_weight": 0.5},),
    "cpl": ({}, {"by_token": True}),
    "xpo": ({"alpha": 0.05},),
    "pro": ({}, {"by_value": False}),
    "grpo": (
        {"kl_weight": 0.1},
        {"loss_aggregation": "token", "clip_high": 0.28},
        {"loss_aggregation": "constant", "constant_length": 8},
        {"ratio": "sequence"},
    ),
    "self_distillation": tuple({"form": form, "top_k": K} for form in ("forward", "reverse", "jensen_shannon")),
}
ALL = tuple(
    open_objective(ObjectiveSection(name=name, settings=settings))
    for name in BUILT_IN
    if name != "kto"  # its figure of all rows is held elsewhere, and depends on micro-batches
    for settings in VARIANTS.get(name, ({},))
)


@dataclass(frozen=True)
class Chosen:
    """Each of them in one program: the one whose number the examples carry."""

    top_k: int = K
    name: ClassVar[str] = "chosen"
    reads: ClassVar[tuple[str, ...]] = tuple(READS.split())
    linear: ClassVar[bool] = False

    def loss(self, logps, targets):
        ways = [lambda x, of=of: of.loss(x if "taught" in of.reads else x[:, :, 0], targets) for of in ALL]
        return jax.lax.switch(targets.extras["which"].max().astype(int), ways, logps)


PARAMS = random_params(CONFIG, scale=0.3)


def make_units(count, size):
    """Groups of so many answers, and of every three units one that is learnt as it is."""
    rng = np.random.default_rng(size)

    def example(n, place):
        length = int(rng.integers(3, 9))
        weights = (np.arange(length) >= length // 2).astype(np.float32)
        teacher = np.log(rng.dirichlet([2] * (K + 1), length)[:, :K])
        extras = {
            "which": 0.0,
            "side": (0, 1, -1, -1)[place],
            "place": place,
            "value": 3.0 - place,
            "reference": -rng.uniform(1, 20),
            "of_reference": float(place == 2),
            "advantage": rng.normal() * (place > 0),
            "drawn": float(place > 0),
            "token_reference": -rng.uniform(2, 4, length) * weights,
            "taught": float(place > 0),
            "teacher_ids": rng.integers(0, 32, (length, K)),
            "teacher_logps": teacher,
        }
        return Example(f"{n}.{place}", "x", rng.integers(0, 32, length).astype(np.int32), weights, extras)

    return [
        example(n, 0) if n % 3 == 0 else Group(tuple(example(n, place + 1) for place in range(size)))
        for n in range(count)
    ]


PAIRS, LISTS = make_units(ROWS, 2), make_units(ROWS, 3)


def laid(units, packing):
    by_id = {unit.id: unit for unit in units}
    rows = [[by_id[id] for id in ids if id in by_id] for ids in pack(units, LENGTH, packing).ids]
    return fill_rows(rows, LENGTH, Chosen.reads, {"teacher_ids": K, "teacher_logps": K})


PACKED = {packing: [laid(units, packing) for units in (PAIRS, LISTS)] for packing in ("tight", "none")}


def sums(number, packing, **how):
    packed = PACKED[packing]["place" in ALL[number].reads]
    which = np.full_like(packed.extras["which"], number)
    return sums_of(Chosen(), PARAMS, replace(packed, extras=packed.extras | {"which": which}), **how)


@pytest.mark.parametrize("number", range(len(ALL)), ids=lambda n: f"{ALL[n].name} {n}")
def test_the_gradient_is_the_same_on_eight_devices_in_micro_batches_and_without_packing(number):
    expected = sums(number, "tight")
    assert float(expected.weight) > 1
    for other in (sums(number, "none"), sums(number, "tight", shape=(8, 1, 1), accumulate=2)):
        assert float(other.loss) == pytest.approx(float(expected.loss), rel=1e-5)
        assert float(other.weight) == float(expected.weight)
        assert_close(other.gradient, expected.gradient)
