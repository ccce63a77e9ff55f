"""A fine-tuning that is stopped and goes on ends as one that was not: same batches, rates, weights and report."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest
from random_params import random_params
from small_training import CONFIG, SETTINGS, Batched, train
from train_helpers import assert_equal

from selfevo_jax import notice
from selfevo_jax.checkpoint import TrainingStore
from selfevo_jax.errors import ModelError, NonFiniteLossError, Preempted
from selfevo_jax.model import LoraConfig
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import SavePolicy, TrainingKeeper, fit, init_state


class Killed(Exception):
    pass


def killed_at(step):
    def before_step(now):
        if now == step:
            raise Killed

    return Batched(before_step)


def without_times(report):
    times = ("seconds", "first_step_seconds", "tokens_per_second")
    return dataclasses.replace(report, **dict.fromkeys(times, 0.0))


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, targets=("q", "down"))])
def test_killed_after_5_steps_it_goes_on_with_the_sixth_rates_and_rows_included(tmp_path, lora):  # C25, C26
    settings = dataclasses.replace(SETTINGS, lora=lora)
    whole = Batched()
    params, report = train(None, whole, settings=settings)
    first = killed_at(5)
    with pytest.raises(Killed):
        train(tmp_path / "states", first, settings=settings, every_steps=2)
    second = Batched()
    got, other = train(tmp_path / "states", second, settings=settings, every_steps=2)
    assert sorted(second.seen) == [4, 5, 6, 7, 8, 9]  # saved after 2 and 4 updates
    assert {**first.seen, **second.seen} == whole.seen
    assert without_times(other) == without_times(report)
    assert other.learning_rates == report.learning_rates
    rows = list(other.rows())
    assert rows == list(report.rows())
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all(set(row) == {"step", "loss", "learning_rate", "grad_norm", "tokens"} for row in rows)
    assert sum(row["tokens"] for row in rows) == report.tokens
    assert_equal(got, params)


def test_an_update_that_leaves_numbers_that_are_not_finite_is_named_and_saved_nowhere(tmp_path):
    endless = dataclasses.replace(SETTINGS, learning_rate=1e39, warmup_steps=0, weight_decay=0.0)
    told = r"step 0: its update \(learning rate \w+\) makes numbers that are not finite in .*; rows: .*; lower the"
    with pytest.raises(NonFiniteLossError, match=told):
        train(None, Batched(), settings=dataclasses.replace(endless, steps=1))
    with pytest.raises(NonFiniteLossError, match=told):
        train(tmp_path / "states", Batched(), settings=endless, every_steps=1)
    assert TrainingStore(tmp_path / "states").latest() is None


def test_a_saved_state_that_is_not_finite_is_refused_with_its_folder(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path / "states", killed_at(5), every_steps=2)
    store = TrainingStore(tmp_path / "states")
    state = init_state(random_params(CONFIG), CONFIG, SETTINGS, make_mesh(1, 1, 1), TRAIN_RULES)
    params = jax.tree.map(lambda x: x, state.params)
    params["embedding"] = params["embedding"].at[3, 0].set(np.nan)
    store.save(6, {"step": state.step, "params": params, "opt_state": state.opt_state}, {})
    store.finish()
    with pytest.raises(ModelError, match="states: the saved state: embedding has NaN or infinite numbers"):
        train(tmp_path / "states", Batched(), every_steps=2)


def test_an_unfinished_state_is_set_aside(tmp_path):
    train(tmp_path / "states", Batched(), every_steps=4)
    torn = tmp_path / "states" / "9.orbax-checkpoint-tmp"
    torn.mkdir()
    (torn / "half").touch()
    store = TrainingStore(tmp_path / "states")
    assert store.latest() == 8
    assert [str(place) for place in store.aside] == [str(tmp_path / "quarantine" / "states.9.orbax-checkpoint-tmp.1")]
    assert (tmp_path / "quarantine" / "states.9.orbax-checkpoint-tmp.1" / "half").exists()
    store.finish()


def test_it_goes_on_with_fewer_devices_in_fp32(tmp_path):  # C28
    with pytest.raises(Killed):
        train(tmp_path / "states", killed_at(6), (1, 4, 1), every_steps=3)
    got, report = train(tmp_path / "states", Batched(), (1, 1, 1), every_steps=100)
    params, whole = train(None, Batched())
    np.testing.assert_allclose(report.losses, whole.losses, rtol=1e-5)
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(params), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_a_notice_saves_the_state_and_ends_with_the_code_for_run_me_again(tmp_path):
    def tell(step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with notice.heeded(), pytest.raises(Preempted, match="after step 4 of the test, which is saved; the same") as told:
        train(tmp_path / "states", Batched(tell))
    assert told.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) == before
    second = Batched()
    got, _ = train(tmp_path / "states", second)
    assert min(second.seen) == 4
    assert_equal(got, train(None, Batched())[0])


def test_states_are_saved_by_the_clock_too_and_removed_at_the_end(tmp_path):
    now, saves = [0.0], []
    policy = SavePolicy(every_seconds=60, clock=lambda: now[0])
    policy.start(0)
    for step in range(1, 10):
        now[0] += 25
        if policy.due(step):
            saves.append(step)
            policy.start(step)
    assert saves == [3, 6, 9]
    assert not SavePolicy().due(10**6)
    train(tmp_path / "states", Batched(), every_steps=4)
    store = TrainingStore(tmp_path / "states")
    assert store.latest() == 8
    store.clear()
    assert not (tmp_path / "states").exists()
    assert store.latest() is None


def test_a_save_that_fails_in_the_background_ends_the_training_and_names_the_place(tmp_path, monkeypatch, caplog):
    # C30. What the failed save leaves behind would hold up the end of these tests for five minutes
    monkeypatch.setattr("orbax.checkpoint._src.multihost.multihost.coordination_timeout", lambda: 5)
    folder, moved = tmp_path / "states", tmp_path / "moved"
    store = TrainingStore(folder)

    class Sabotaged(TrainingKeeper):
        def keep(self, state, record):
            super().keep(state, record)
            if not moved.exists():
                self.store.finish()
                folder.rename(moved)
                folder.write_text("in the way")

    params = random_params(CONFIG)
    keeper = Sabotaged(store, SavePolicy(every_steps=2), "the test")
    with pytest.raises(ModelError, match="states: the training could not be saved"):
        fit(params, CONFIG, Batched(), SETTINGS, make_mesh(1, 1, 1, jax.devices()[:1]), keeper=keeper)
    assert TrainingStore(moved).latest() == 2
    assert not [record.message for record in caplog.records if record.exc_info]  # the error alone tells it
