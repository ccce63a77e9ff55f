"""States and checkpoints count only with a note of what they hold, written by who may write."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from selfevo_jax.checkpoint import NOTE, TrainingStore, folder_faults, is_complete, save_params
from selfevo_jax.errors import SelfevoError

STATE = {"w": jnp.arange(64.0)}


class Refusal(SelfevoError):
    """What a lost lock raises."""


def saved(folder: Path, *steps: int) -> TrainingStore:
    store = TrainingStore(folder)
    for step in steps:
        store.save(step, {"w": STATE["w"] + step}, {"step": step})
    store.finish()
    return store


def test_any_changed_or_missing_file_of_a_state_is_named_and_the_state_before_goes_on(tmp_path: Path) -> None:
    saved(tmp_path / "s", 1, 2)
    newest = tmp_path / "s" / "2"
    files = sorted(file for file in newest.rglob("*") if file.is_file())
    assert folder_faults(newest) == []
    for file in files:
        content, name = file.read_bytes(), file.relative_to(newest).as_posix()
        at = len(content) // 2
        for broken in (content[:at], content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], content * 2, None):
            if broken is None:
                file.unlink()
            else:
                file.write_bytes(broken)
            assert any(fault.startswith(name) for fault in folder_faults(newest)), name
            file.write_bytes(content)
    array = max(files, key=lambda file: file.stat().st_size)
    array.write_bytes(array.read_bytes()[:-1] + b"!")
    store = TrainingStore(tmp_path / "s")
    assert store.latest() == 1
    assert store.aside == [tmp_path / "quarantine" / "s.2.1"]
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), STATE)
    np.testing.assert_array_equal(store.restore(1, target)[0]["w"], STATE["w"] + 1)


def test_what_a_process_wrote_that_has_lost_the_run_never_counts(tmp_path: Path) -> None:
    """It may still write when it begins to save, and no more when all is written."""

    def allowed() -> None:
        asked.append(1)
        if len(asked) > 1:
            raise Refusal("another process has taken the run over")

    asked: list[int] = []
    store = TrainingStore(tmp_path / "s", allowed)
    store.save(1, STATE, {})
    with pytest.raises(Refusal):
        store.finish()
    assert TrainingStore(tmp_path / "s").latest() is None
    asked.clear()
    with pytest.raises(Refusal):
        save_params(tmp_path / "c", STATE, {}, allowed=allowed)
    assert not is_complete(tmp_path / "c")
    save_params(tmp_path / "c", STATE, {})
    assert is_complete(tmp_path / "c")
    assert (tmp_path / "c" / "params" / NOTE).exists()
    assert folder_faults(tmp_path / "c" / "params") == []
