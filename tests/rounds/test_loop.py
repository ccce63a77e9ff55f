"""The whole loop on the embedded task, small: real base, real engine, real training, real Orbax checkpoints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from loop_helpers import TRAIN, config, run, texts, unfinished, weights

from selfevo_jax.chains import Rollout
from selfevo_jax.checkpoint import is_complete
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.report import summarize
from selfevo_jax.run import RunDir
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.names import SCORES

pytestmark = pytest.mark.slow


def test_every_round_leaves_a_checkpoint_its_rows_and_its_figures(finished: Path) -> None:
    for name in ("meta", "0001", "0002"):
        assert is_complete(finished / "checkpoints" / name)
        assert (finished / "evaluations" / f"{name}.json").exists()
    for number in (1, 2):
        folder = finished / "rounds" / f"{number:04d}"
        rollouts = [Rollout.from_dict(row) for row in read_rows(folder / "rollouts" / "part-00000.jsonl")]
        assert len(rollouts) == 16
        assert all(r.candidates[0].feedback is not None for r in rollouts)
        for row, r in zip(read_rows(folder / SCORES), rollouts, strict=True):
            assert (row["id"], row["sample"]) == (r.id, r.sample)
            for turn, candidate in zip(row["turns"], r.candidates, strict=True):
                for scores, part in ((turn["candidate"], candidate), (turn["feedback"], candidate.feedback)):
                    assert part is not None
                    assert len(scores) == len(part.tokens) + len(part.end) > 0
                    assert max(scores) <= 0
        kept = read_rows(folder / "self_curated.jsonl")
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["counts"]["kept"] == len(kept) > 0
        assert metrics["controls"]["rows"] == 4
        assert metrics["data_accuracy"]["candidates"]["n"] == 16
    costs = read_rows(finished / "costs.jsonl")
    sampled = [cost for cost in costs if "respond" in cost["phase"] and cost["phase"].startswith("round")]
    assert [cost["chains"] for cost in sampled] == [16, 16]
    assert [cost["chains"] for cost in costs if "planted" in cost["phase"]] == [4, 4]
    assert all(cost["compiles"] == 0 for cost in costs)  # the sampler was compiled ahead of the first rollout
    for cost in sampled:
        assert 0 < cost["occupancy"] <= 1 <= cost["computed_over_least"] < 1.05
        assert 0 < cost["floor"]["floor_seconds"] < cost["floor"]["step_seconds"]
    summary = summarize(RunDir(finished))
    assert summary.complete
    assert [row.checkpoint for row in summary.rows] == ["base", "meta", "round 1", "round 2"]


def test_a_rounds_checkpoint_is_a_model_that_learnt_something_else(finished: Path) -> None:
    before, after = (weights(finished / "checkpoints" / name) for name in ("meta", "0001"))
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_same_command_does_nothing_again_and_more_rounds_go_on(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    was = texts(copy)
    heard = run(config(copy))
    assert texts(copy) == was
    assert not [line for line in heard.lines if "Round" in line or "fine-tuning" in line]
    run(config(copy, rounds__number=3))
    assert is_complete(copy / "checkpoints" / "0003")
    assert {name: content for name, content in texts(copy).items() if name in was} == was


def test_a_run_that_was_killed_in_its_second_round_ends_as_if_it_had_not_been(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    unfinished(copy, 2, 7)
    heard = run(config(copy))
    assert any("finished rollouts are kept" in line for line in heard.lines)
    assert texts(copy) == texts(finished)
    for one, other in zip(weights(copy / "checkpoints/0002"), weights(finished / "checkpoints/0002"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_killed_save_is_not_taken_for_a_checkpoint(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (copy / "rounds" / "0002" / "COMMITTED").unlink()
    params = copy / "checkpoints" / "0002" / "params"
    params.rename(params.with_name("params.orbax-checkpoint-tmp-0"))
    torn = copy / "rounds" / "0002" / ".metrics.json.77.tmp"
    torn.write_text('{"rou')
    told = [line for line in run(config(copy)).lines if "moved to quarantine" in line]
    aside = [
        copy / "quarantine" / "0002.metrics.json.77.tmp.1",
        copy / "checkpoints/quarantine/0002.params.orbax-checkpoint-tmp-0.1",
    ]
    assert [line.rpartition(" ")[2] for line in told] == list(map(str, aside))
    assert all(place.exists() for place in aside)
    assert not torn.exists()
    for one, other in zip(weights(copy / "checkpoints/0002"), weights(finished / "checkpoints/0002"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_config_is_refused_with_the_differing_key(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"learn.learning_rate: 0.001 -> 0.002"):
        run(config(finished, learn={**TRAIN, "learning_rate": 2e-3}))


def test_an_empty_kept_set_ends_the_run_with_the_round_not_trained(finished: Path, tmp_path: Path) -> None:
    # a critic that sees no room for a verdict: all feedback is clipped, hence unparseable
    blind = {"slots": 16, "cache_length": 128, "feedback": {"max_new_tokens": 1}, "respond": {"max_new_tokens": 8}}
    root = tmp_path / "run"
    with pytest.raises(EmptySelectionError, match=r"round 1: 0 of 16 rows passed.*unparseable feedback 16"):
        run(config(root, sampling=blind, rounds__select="feedback", rounds__controls=0))
    assert not (root / "checkpoints" / "0001").exists()
    assert not (root / "rounds" / "0001" / "COMMITTED").exists()


@pytest.mark.parametrize("variant", ["restart", "continual_self_only"])
def test_the_other_training_variants_run(tmp_path: Path, variant: str) -> None:
    root = tmp_path / "run"
    run(config(root, rounds={"number": 1, "variant": variant, "select": "none", "controls": 0}))
    metadata = json.loads((root / "checkpoints" / "0001" / "metadata.json").read_text())
    examples = metadata["training"]["examples"]
    assert set(examples) == ({"self"} if variant == "continual_self_only" else {"self", "meta", "direct"})
    # pooled by their sizes: each example as often as any other
    total = sum(examples.values())
    assert metadata["training"]["shares"] == pytest.approx({pool: n / total for pool, n in examples.items()})


def test_restart_trains_a_length_in_epochs_on_d_meta_and_every_d_self_so_far(tmp_path: Path) -> None:
    root = tmp_path / "run"
    rounds = {"number": 2, "variant": "restart", "select": "none", "controls": 0}
    learn = {**TRAIN, "steps": None, "epochs": 2, "packing": "none"}
    heard = run(config(root, rounds=rounds, learn=learn))
    trained = [json.loads((root / f"rounds/000{n}/metrics.json").read_text())["training"] for n in (1, 2)]
    kept = [len(read_rows(root / f"rounds/000{n}/self_curated.jsonl")) for n in (1, 2)]
    assert [t["examples"]["self"] for t in trained] == [kept[0], sum(kept)]
    for t in trained:
        assert t["steps"] == -(-2 * sum(t["examples"].values()) // TRAIN["batch_rows"])
        assert f"epochs are {t['steps']} steps" in "\n".join(heard.lines)
