from pathlib import Path

import pytest

from selfevo_jax.config import SavingSection
from selfevo_jax.errors import SelfevoError
from selfevo_jax.rounds.retention import kept, require_room


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
    direct = {0: 0.1, 1: 0.4, 2: 0.3, 3: 0.6, 4: 0.6, 5: 0.5}
    assert kept(SavingSection(**saving), 5, direct) == rounds
    assert 5 in kept(SavingSection(keep_last=1), 5, {})


def test_too_little_room_is_told_with_both_numbers(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "made" / "yet", 1, "a file")
    with pytest.raises(SelfevoError, match=r"fine-tuning 0001 needs 1000000000.00 GB on disk, \d+\.\d\d GB are free"):
        require_room(tmp_path, 10**18, "fine-tuning 0001")
