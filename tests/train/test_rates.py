"""A learning rate that nobody set is told where it is far above what is usual for the size of the model."""

import pytest

from selfevo_jax.train import LoraSection, MetaSection, TrainSection
from selfevo_jax.train.rates import rate_notices

ADAPTERS = LoraSection()


@pytest.mark.parametrize(
    ("parameters", "meta", "learn", "said"),
    [
        (348_192, {}, {}, []),
        (134_515_008, {}, {}, ["meta.learning_rate=0.0003", "learn.learning_rate=0.0002"]),
        (134_515_008, {"learning_rate": 1e-3}, {"learning_rate": 1e-3}, []),
        (134_515_008, {"lora": ADAPTERS}, {"lora": ADAPTERS}, []),
        (8_000_000_000, {"lora": ADAPTERS}, {}, ["meta.learning_rate=0.0001", "learn.learning_rate=1e-05"]),
    ],
)
def test_a_default_that_is_far_above_the_usual_rate_is_told_with_that_one(parameters, meta, learn, said) -> None:
    found = list(rate_notices({"meta": MetaSection(**meta), "learn": TrainSection(**learn)}, parameters))
    assert len(found) == len(said)
    assert all(f"set {one}," in line for one, line in zip(said, found, strict=True))
