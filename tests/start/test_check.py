"""What would stop a run is said all at once, before it is begun, and nothing is written."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from small_files import good
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.config import parse_config
from selfevo_jax.lazy import install
from selfevo_jax.plan.measured import Machine
from selfevo_jax.run.lock import LOCK, Owner
from selfevo_jax.sample.floor import MachineRates
from selfevo_jax.start.time import _learn_steps, _rounds_learnt

CPU = Machine(MachineRates(2e11, 3e10), MachineRates(2e11, 3e10), Machine.measure.__globals__["_CPU"], 1)


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "measure", classmethod(lambda *_: CPU))


def files(root: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def written(path: Path, tree: dict) -> str:
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def test_a_run_that_can_be_begun_is_said_to_take_so_much_time_memory_and_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("selfevo_jax.train.rates._RATES", ())
    config = written(tmp_path / "c.yaml", {**good(tmp_path), "track": "mlflow", "saving": {"keep_every": 5}})
    before = files(tmp_path)
    done = CliRunner().invoke(app, ["evolve", config, "--check"])
    assert done.exit_code == 0, done.output
    for said in (
        "348,192 parameters, format plain",
        "prompts of round 1: 10",
        "D_meta: 20 rows",
        "evaluation set 'test': 10 rows",
        "memory of a device",
        "disk: a fine-tuning takes 0.01 GB",
        "a round: ",
        "200 GFLOP/s, 30.0 GB/s",
        "warning: track.0: ",
        "warning: saving.keep_every: found 5, but saving.keep_last is null",
        "warning: meta.learning_rate is not set, and its default 0.001",
        "warning: learn.learning_rate is not set",
        install("mlflow"),
        "Nothing that can be seen now would stop the run.",
    ):
        assert said in done.output, said
    assert files(tmp_path) == before


def test_a_round_is_said_to_learn_as_many_rows_as_its_settings_let_it(tmp_path: Path) -> None:
    def learnt(samples: int, **rounds: object) -> tuple[int, int]:
        """Rounds whose rows the last one learns; steps of a round that keeps all that it may."""
        tree = good(tmp_path)
        tree["data"]["samples_per_prompt"], tree["rounds"] = samples, {"number": 3, "minimum_kept": 1, **rounds}
        bench: Any = SimpleNamespace(config=parse_config(tree))
        lengths: Any = SimpleNamespace(prompt=20, answer=44)
        return _rounds_learnt(bench.config.rounds), _learn_steps(bench, lengths, {}, 1.0, 1)

    assert learnt(1) == (3, 3)  # two rows of 64 tokens in one of 128, and two of these in a step
    assert learnt(1, pool="last") == (1, 3)
    assert learnt(8) == learnt(4) == (3, 10)
    assert learnt(8, per_prompt=None) == (3, 20)
    assert learnt(8, select="best_of_n") == (3, 3)


def test_the_quickstart_has_nothing_to_be_warned_of(tmp_path: Path) -> None:
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    done = CliRunner().invoke(app, ["evolve", str(quickstart), "--check", f"run_dir={tmp_path / 'run'}", "mesh.data=1"])
    assert done.exit_code == 0, done.output
    assert "warning" not in done.output
    assert "a chain: " in done.output
    assert "(13 programs, a" in done.output


def test_everything_that_would_stop_a_run_is_said_at_once(tmp_path: Path) -> None:
    tree = good(tmp_path)
    (tmp_path / "test.jsonl").write_text('{"prompt": "a", "answer": "many"}\n')
    (tmp_path / "prompts.jsonl").write_text('{"prompt": 3}\n{"text": "x"}\n')
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("x")
    tree["sampling"]["cache_lenght"] = 64
    tree["learn"]["lr"] = 1
    tree["meta"]["length"] = 4096
    tree["data"]["meta_skill"] = str(tmp_path / "nowhere.jsonl")
    tree["format"] = {"kind": "chat"}
    tree["method"] = {"name": "nothing"}
    config = written(tmp_path / "c.yaml", tree)
    before = files(tmp_path)
    done = CliRunner().invoke(app, ["evolve", config, "--check"])
    assert done.exit_code == 1
    faults = (
        "unknown key 'sampling.cache_lenght'; did you mean 'cache_length'?",
        "unknown key 'learn.lr'; did you mean 'learning_rate'?",
        "prompts.jsonl:1, field 'prompt'",
        "prompts.jsonl:2, field 'prompt' or 'question'",
        "test.jsonl:1, field 'answer'",
        "nowhere.jsonl: no such file",
        "method.name",
        "meta.length: found 4096, but the model has 256 positions",
        "no chat template; use format.kind=plain",
        "run: not empty and not a run directory",
    )
    for said in faults:
        assert said in done.output, said
    assert f"{len(faults)} faults would stop the run:" in done.output, done.output
    assert files(tmp_path) == before


def test_a_hint_that_names_no_column_is_a_fault_before_the_run(tmp_path: Path) -> None:
    method = {"name": "star", "settings": {"hint": "{prompt} {nothing}"}}
    done = CliRunner().invoke(
        app, ["evolve", written(tmp_path / "c.yaml", good(tmp_path) | {"method": method}), "--check"]
    )
    assert done.exit_code == 1
    assert "method.settings.hint: found {nothing}, but gold rows have prompt, answer" in done.output


def test_lengths_and_servers_that_would_stop_a_run_later_are_faults_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    tree = good(tmp_path)
    tree["meta"]["length"], tree["sampling"]["cache_length"] = 8, 40
    tree["meta"]["objective"] = {"name": "dpo"}
    server = {"url": "http://127.0.0.1:1/v1", "model": "m"}
    tree["judge"] = {"batch": {"kind": "endpoint", "form": "rating", "endpoint": server}}
    tree["rounds"] |= {"select": "threshold", "quantiles": [0.5, 0.75]}
    monkeypatch.setattr("selfevo_jax.start.check.available_bytes", lambda _: 1 << 20)
    monkeypatch.setattr("selfevo_jax.storage.disk.Disk.free", lambda *_: 1000)
    done = CliRunner().invoke(app, ["evolve", written(tmp_path / "c.yaml", tree), "--check"])
    assert done.exit_code == 1
    for said in (
        "meta.length 8: meta: nothing is left to learn from: none of 20 examples",
        "meta: objective.name: rows of D_meta and D_QA have no 'side'; set it to sft",
        "http://127.0.0.1:1/v1: cannot be reached now",
        "meta: its parameters, moments, gradients and what is held beside them take",
        "a fine-tuning needs 0.01 GB on disk, 0.00 GB are free",
        "warning: a prompt of",
        "warning: rounds.quantiles: found 2, one for each round, but rounds.number is 1",
    ):
        assert said in done.output, (said, done.output)


def test_a_config_that_cannot_be_read_at_all_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: [")
    for words in ([str(path)], [str(tmp_path / "none.yaml")], [written(tmp_path / "d.yaml", {"run_dir": "x"})]):
        done = CliRunner().invoke(app, ["evolve", *words, "--check"])
        assert done.exit_code == 1
        assert "would stop the run:" in done.output


def test_a_run_that_is_there_is_compared_and_its_owner_is_named(tmp_path: Path) -> None:
    from selfevo_jax.config import load_config
    from selfevo_jax.run import RunDir

    tree = good(tmp_path)
    config = written(tmp_path / "c.yaml", tree)
    run = RunDir(tree["run_dir"])
    run.open(load_config(config), {"model": "other"})
    run.close()
    before = files(tmp_path)
    done = CliRunner().invoke(app, ["evolve", config, "--check", "learn.learning_rate=0.5", "seed=3"])
    assert done.exit_code == 1
    for said in ("learn.learning_rate: 0.001 -> 0.5", "seed: 0 -> 3", "model: other content than at the start"):
        assert said in done.output, done.output
    assert files(tmp_path) == before
    other = replace(Owner.here(), pid=1, born=Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    (run.root / LOCK).write_text(json.dumps(asdict(other)))
    done = CliRunner().invoke(app, ["evolve", config, "--check"])
    assert f"process 1 on {other.host}" in done.output
    assert "is running this run" in done.output
