"""What a fine-tuning draws from: by the numbers of examples, or by shares set by hand."""

from collections import Counter

import numpy as np
import pytest
from loop_helpers import Heard

from selfevo_jax.config import parse_config
from selfevo_jax.data import Batches, Example
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.methods.mixture import fitted, mixture
from selfevo_jax.train import TrainSection, train_settings


def examples(term: str, count: int, length: int = 6) -> list[Example]:
    weights = np.ones(length, np.float32)
    weights[0] = 0
    return [Example(f"{term}-{i}", term, np.full(length, 3, np.int32), weights) for i in range(count)]


GROUPS = {"self": examples("self", 30), "meta": examples("meta", 12), "direct": examples("direct", 5)}


def test_without_shares_each_example_of_every_pool_is_seen_exactly_once_in_an_epoch() -> None:
    groups = {**GROUPS, "qa": examples("qa", 3)}
    pools = mixture(groups, TrainSection(epochs=1))
    assert {name: round(share * 50) for name, (_, share) in pools.items()} == {
        "self": 30,
        "meta": 12,
        "direct": 5,
        "qa": 3,
    }
    batches = Batches(pools, batch_rows=1, length=6, seed=0, packing="none")
    assert batches.steps_in(1.0) == 50
    for epoch in range(2):
        seen = Counter(name for step in range(50) for row in batches.at(50 * epoch + step)[1] for name in row)
        assert seen == Counter(example.id for group in groups.values() for example in group)


def test_shares_that_are_set_by_hand_hold_beside_others_that_go_by_numbers() -> None:
    shares = {n: s for n, (_, s) in mixture(GROUPS, TrainSection(meta_share=0.25)).items()}
    assert shares == pytest.approx({"self": 0.75, "meta": 0.25 * 12 / 17, "direct": 0.25 * 5 / 17})
    shares = {n: s for n, (_, s) in mixture(GROUPS, TrainSection(direct_share=0.1, qa_share=0.5)).items()}
    assert shares == pytest.approx({"self": 30 / 47, "meta": 17 / 47 * 0.9, "direct": 17 / 47 * 0.1})
    assert "direct" not in mixture(GROUPS, TrainSection(direct_share=0.0))
    assert set(mixture(GROUPS, TrainSection(meta_share=1.0))) == {"meta", "direct"}
    alone = mixture({"self": GROUPS["self"]}, TrainSection(meta_share=0.2))
    assert [share for _, share in alone.values()] == [1.0]


def test_examples_that_are_longer_than_a_row_are_counted_and_weigh_nothing() -> None:
    heard = Heard()
    section = TrainSection(length=8, direct_share=0.0)
    groups = {
        "self": [*examples("self", 3), *examples("self", 1, 9)],
        "meta": examples("meta", 2),
        "direct": examples("direct", 2, 99),
    }
    kept = fitted(groups, section, heard, "meta")
    assert {name: len(found) for name, found in kept.items()} == {"self": 3, "meta": 2}
    assert heard.lines == ["warning: self: 1 of 4 examples are longer than 8 tokens; dropped"]
    groups["qa"] = examples("qa", 2, 9)
    with pytest.raises(EmptySelectionError, match=r"^meta\.length 8: qa: nothing is left to learn from: none of 2 "):
        fitted(groups, section, heard, "meta")


def test_a_length_is_named_in_steps_or_in_epochs_and_never_in_both() -> None:
    base = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}}
    assert parse_config(base).learn.steps == 150
    found = parse_config({**base, "learn": {"epochs": 2}}).learn
    assert (found.steps, found.epochs) == (None, 2.0)
    assert parse_config({**base, "learn": {"steps": None, "epochs": 2}}).learn == found
    assert parse_config({**base, "learn": found.model_dump()}).learn == found
    with pytest.raises(ConfigError, match=r"learn: .*steps 7 and epochs 2; give one of them"):
        parse_config({**base, "learn": {"steps": 7, "epochs": 2}})


def test_epochs_become_steps_by_the_packed_rows_and_the_warm_up_stays_within_them() -> None:
    batches = Batches(mixture(GROUPS, TrainSection()), batch_rows=4, length=12, seed=0)
    assert len({id for step in range(batches.steps_in(1)) for row in batches.at(step)[1] for id in row}) == 47
    assert batches.steps_in(1) == 6  # 24 rows of two examples
    assert batches.steps_in(2.5) == 15
    assert batches.steps_in(0.001) == 1
    assert (train_settings(TrainSection(epochs=1), 0, 6).steps, train_settings(TrainSection(epochs=1), 0, 1).steps) == (
        6,
        1,
    )
    assert train_settings(TrainSection(epochs=1), 0, 6).warmup_steps <= 5
    assert train_settings(TrainSection(steps=40), 0).steps == 40


def test_a_run_that_may_end_where_it_gets_worse_needs_a_set_to_compare_by() -> None:
    data = {"prompts": "p.jsonl", "meta_skill": "m.jsonl"}
    tree = {"run_dir": "x", "model": {"source": "builtin:stories"}, "rounds": {"stop_when_worse": True}}
    with pytest.raises(ConfigError, match="rounds.stop_when_worse: there is nothing to compare by"):
        parse_config({**tree, "data": data})
    parse_config({**tree, "data": {**data, "evaluation": {"held": "h.jsonl"}}})
