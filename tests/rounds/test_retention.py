from pathlib import Path

import jax
import pytest

from selfevo_jax.checkpoint import TrainingStore
from selfevo_jax.errors import SelfevoError
from selfevo_jax.model import LoraConfig, init_params, param_count, preset_shape
from selfevo_jax.run.retention import best, kept, require_room, training_room
from selfevo_jax.train import SavingSection


@pytest.mark.parametrize(
    ("saving", "rounds"),
    [
        ({}, {0, 1, 2, 3, 4, 5}),
        ({"keep_last": 2, "keep_best": False}, {4, 5}),
        ({"keep_last": 9, "keep_best": False}, {0, 1, 2, 3, 4, 5}),
        ({"keep_last": 1, "keep_every": 2, "keep_best": False}, {0, 2, 4, 5}),
        ({"keep_last": 1}, {3, 5}),
    ],
)
def test_the_last_every_kth_and_the_best_are_kept(saving: dict, rounds: set[int]) -> None:
    settings = SavingSection(**saving)
    assert kept(settings, 5, 3 if settings.keep_best else None) == rounds
    assert kept(SavingSection(keep_last=1), 5, None) == {5}


def test_the_best_round_is_the_earliest_with_the_most_right_rows_among_those_that_could_be_run() -> None:
    def right(hits: int, failed: int = 0) -> dict[str, bool | None]:
        return {str(i): None if i >= 10 - failed else i < hits for i in range(10)}

    assert best({0: right(1), 1: right(4), 2: right(3), 3: right(6), 4: right(6), 5: right(5)}) == 3
    assert best({0: right(5), 1: right(4, failed=4)}) == 1  # 4 of 6 against 5 of 10
    assert best({0: right(0, failed=10), 1: right(0)}) == 1
    assert best({0: right(0, failed=10)}) is None
    assert best({}) is None


def test_too_little_room_is_told_with_both_numbers(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "made" / "yet", 1, "a file")
    with pytest.raises(SelfevoError, match=r"fine-tuning 0001 needs 1000000000.00 GB on disk, \d+\.\d\d GB are free"):
        require_room(tmp_path, 10**18, "fine-tuning 0001")


def test_room_is_counted_as_saves_use_it(tmp_path: Path) -> None:
    """Real saves of a state of random numbers: what is on disk at the most, and then with the checkpoint beside it."""
    model = preset_shape("tiny")
    params = init_params(model, jax.random.key(0))
    state = {"step": jax.numpy.array(1), "params": params, "opt_state": {"m": params, "v": params}}
    store, used = TrainingStore(tmp_path / "states"), []

    def look() -> None:
        used.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))

    store.allowed = look  # called when a state is whole, and none is removed yet
    for step in (1, 2, 3, 4):
        store.save(step, state, {})
    store.finish()
    counted, count = training_room(model), param_count(model)
    assert counted == 40 * count
    assert 0.7 * 36 * count < max(used) < counted  # numbers are stored packed
    lora = LoraConfig(rank=2)
    assert 4 * count < training_room(model, lora) < counted / 2
    assert training_room(model, lora, adapters_alone=True) < 4 * count
