"""A study: variants and seeds as runs that share their phases, and one table."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
import quick_processes
import yaml
from lock_helpers import owned_by_a_living_process
from loop_helpers import Heard, config, run
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.config import Config, dump_config
from selfevo_jax.errors import ConfigError, EmptySelectionError, NonFiniteLossError, Preempted
from selfevo_jax.progress import Reporter
from selfevo_jax.report import status
from selfevo_jax.run import RunDir, records, shared, verify
from selfevo_jax.run.files import read_rows
from selfevo_jax.study import conduct, read_study

conducting = sys.modules[conduct.__module__]  # the room names the function as the module

pytestmark = pytest.mark.slow

STRICT = {"rounds.select": "feedback", "rounds.minimum_kept": 16}
VARIANTS = {"mixed": {}, "alone": {"rounds.variant": "continual_self_only"}, "strict": STRICT}


def written(folder: Path, variants: dict = VARIANTS, **more: object) -> Path:
    """A study of the small run; its first variant is that run itself."""
    (folder / "base.yaml").write_text(dump_config(config(folder / "nowhere")))
    study = folder / "study.yaml"
    tree = {"base": "base.yaml", "out": str(folder / "out"), "variants": variants, **more}
    study.write_text(yaml.safe_dump(tree, sort_keys=False))
    return study


def chains(run: Path) -> dict[str, int]:
    """Chains that a run has sampled itself, by phase."""
    rows = read_rows(run / "costs.jsonl") if (run / "costs.jsonl").exists() else []
    return {row["phase"]: row["chains"] for row in rows}


@pytest.fixture(scope="module")
def studied(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was killed while its second run took what the first one had, and gone on with."""
    folder = tmp_path_factory.mktemp("study")
    study = written(folder, seeds=[0, 1])
    shutil.copytree(finished, folder / "out/mixed/seed-0")
    killed = """
import os, shutil, signal, sys
from selfevo_jax.progress import Reporter
from selfevo_jax.run import forking
from selfevo_jax.study import conduct, read_study
brought, link = [], os.link
def dying(source, to):
    link(source, to)
    brought.append(to)
    if len(brought) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
os.link = dying
conduct(read_study(sys.argv[1]), Reporter())
"""
    done = quick_processes.run(["-c", killed, study], 120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "run 2 of 6: alone, seed 0" in done.stdout
    assert not (folder / "out/alone/seed-0/config.yaml").exists()
    assert conduct(read_study(study), Heard())
    return folder


def test_no_chain_is_sampled_twice_and_what_is_shared_is_what_the_run_would_have_made(
    studied: Path, finished: Path
) -> None:
    out = studied / "out"
    assert chains(out / "alone/seed-0") == {
        "evaluating 0001 on stories": 16,
        "round 2: respond, judge, refine": 16,
        "round 2: judge planted answers": 4,
        "evaluating 0002 on stories": 16,
    }
    assert chains(out / "strict/seed-0") == {}
    # another seed has the base's evaluation alone, which is greedy, in common
    first = chains(out / "mixed/seed-1")
    assert "evaluating base on stories" not in first
    assert first["round 1: respond, judge, refine"] == 16
    assert chains(out / "alone/seed-1").keys() == chains(out / "alone/seed-0").keys()
    taken = {one.artefact: one.source for one in shared(RunDir(out / "alone/seed-1"))}
    assert taken == {
        "evaluation of base": str(out / "mixed/seed-0"),
        **dict.fromkeys(
            ("D_meta", "M_meta", "evaluation of M_meta", "rollouts of round 1", "controls of round 1"),
            str(out / "mixed/seed-1"),
        ),
    }
    for name in ("alone/seed-0", "strict/seed-0"):
        for file in ("meta/meta_skill.jsonl", "rounds/0001/rollouts/part-00000.jsonl", "evaluations/meta.json"):
            assert (out / name / file).samefile(out / "mixed/seed-0" / file)


def test_a_run_with_shared_phases_verifies_and_is_like_any_other(studied: Path) -> None:
    for name in ("mixed/seed-1", "alone/seed-0", "alone/seed-1", "strict/seed-1"):
        assert verify(RunDir(studied / "out" / name)).faults == []
    assert {phase.state for phase in status(RunDir(studied / "out/alone/seed-1")).phases} == {"done"}


def test_a_run_with_shared_phases_is_the_run_without_them(studied: Path, tmp_path: Path) -> None:
    run(
        config(
            tmp_path / "own", rounds={"number": 2, "variant": "continual_self_only", "select": "none", "controls": 4}
        )
    )
    own, linked = records(tmp_path / "own"), records(studied / "out/alone/seed-0")
    others = {"fork.json", "report.json", "config.yaml", "fingerprints.json"}
    assert {k: v for k, v in linked.items() if k not in others} == {k: v for k, v in own.items() if k not in others}


def test_a_variant_that_ends_early_is_a_row_with_its_reason(studied: Path) -> None:
    found = json.loads((studied / "out/table.json").read_text())
    ends = {one["run_dir"]: one["ended"] for row in found["rows"] for one in row["runs"]}
    assert ends[str(studied / "out/strict/seed-0")].startswith("round 1: 0 of 16 rows passed the filter")
    assert ends[str(studied / "out/mixed/seed-0")] is None
    text = (studied / "out/table.txt").read_text()
    assert "seed 0 ended early: round 1: 0 of 16 rows passed" in text
    assert '"at":"round 1"' in (studied / "out/strict/seed-0/report.html").read_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "strict differs from mixed in: rounds.select feedback (mixed: none);" in text


def test_how_a_run_ended_is_said_by_its_status_and_forgotten_where_it_is_made_anew(tmp_path: Path, monkeypatch) -> None:
    class Ending:
        """A run that is begun, and ends as `how` says."""

        how: Exception = EmptySelectionError("round 1: 0 of 16 rows passed. Raise something")

        def __init__(self, config: Config, _: Reporter) -> None:
            self.dir = RunDir(config.run_dir)
            self.dir.open(config, {"model": "x"})

        def run(self) -> None:
            raise self.how

        def close(self) -> None:
            self.dir.close()

    monkeypatch.setattr(conducting, "Controller", Ending)
    monkeypatch.setattr(conducting, "_check", lambda _: None)
    study = read_study(written(tmp_path, {"mixed": {}}))
    root, record = tmp_path / "out/mixed/seed-0", tmp_path / "out/study.json"
    assert conduct(study, Heard())
    assert "round 1: 0 of 16 rows passed" in str(status(RunDir(root)).last_stop)
    assert not conduct(study, Heard())
    shutil.rmtree(root)
    monkeypatch.setattr(Ending, "how", Preempted("told to end"))
    with pytest.raises(Preempted):
        conduct(study, Heard())
    assert json.loads(record.read_text()) == {"runs": {}}
    monkeypatch.setattr(Ending, "how", NonFiniteLossError("the loss is NaN"))
    assert conduct(study, Heard())
    assert "seed 0 ended early: the loss is NaN" in (tmp_path / "out/table.txt").read_text()


def test_the_second_call_does_nothing(studied: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (studied / "out").rglob("*")}
    done = CliRunner().invoke(app, ["study", str(studied / "study.yaml")])
    assert done.exit_code == 0, done.output
    assert "all 6 runs are at their end; there is nothing to do" in done.output
    assert {file: file.stat().st_mtime_ns for file in (studied / "out").rglob("*")} == before


def test_a_run_at_its_end_without_a_page_gets_one_while_no_other_process_has_it(studied: Path) -> None:
    study, root = read_study(studied / "study.yaml"), studied / "out/alone/seed-1"
    (root / "report.html").unlink()
    owner = owned_by_a_living_process(root / ".lock")
    heard = Heard()
    assert not conduct(study, heard)
    assert [line for line in heard.lines if f"process {owner.pid} on" in line]
    (root / ".lock").unlink()
    assert not conduct(study, Heard())
    assert '"at":"round 1"' in (root / "report.html").read_text()
    assert (verify(RunDir(root)).faults, verify(RunDir(root)).absent) == ([], [])


def test_the_table_has_means_over_seeds_and_paired_differences(studied: Path) -> None:
    found = json.loads((studied / "out/table.json").read_text())
    figures = {(f["mode"], f["row"], f["checkpoint"]): f for f in found["accuracy"]}
    one = figures["direct", "mixed", "round 2"]
    shares = []
    for seed in (0, 1):
        right = json.loads((studied / f"out/mixed/seed-{seed}/evaluations/0002.json").read_text())["stories"]["right"]
        shares.append(sum(right["direct"].values()) / 16)
    assert one["mean"] == pytest.approx(sum(shares) / 2)
    assert one["stderr"] == pytest.approx(abs(shares[0] - shares[1]) / 2)
    apart = {(f["mode"], f["row"], f["checkpoint"]): f for f in found["differences"]}
    assert apart["direct", "alone", "round 2"]["seeds"].keys() == {"0", "1"}
    assert apart["refined", "alone", "meta"]["mean"] == 0


def test_runs_that_are_there_are_compared_by_the_command_and_others_refused(studied: Path, tmp_path: Path) -> None:
    runs = [str(studied / f"out/{variant}/seed-{seed}") for variant in ("mixed", "alone") for seed in (0, 1)]
    done = CliRunner().invoke(app, ["compare", *runs, "--baseline", "alone", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert [(row["name"], len(row["runs"])) for row in found["rows"]] == [("mixed", 2), ("alone", 2)]
    assert found["rows"][0]["config"] == {
        "rounds.variant": {"baseline": "continual_self_only", "here": "continual_mixed"}
    }
    shown = CliRunner().invoke(app, ["compare", *runs[:1], runs[2], "--markdown"])
    assert "| alone | " in shown.output
    assert "p 1.000" in shown.output or "p 0." in shown.output
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    tree = yaml.safe_load((other / "config.yaml").read_text())
    tree["data"]["stories"]["evaluation_split"] = "development"
    (other / "config.yaml").write_text(yaml.safe_dump(tree))
    lost = CliRunner().invoke(app, ["compare", runs[0], "--set", "nope"])
    assert str(lost.exception) == "--set nope: no run has such an evaluation set; there are stories"
    refused = CliRunner().invoke(app, ["compare", runs[0], str(other)])
    assert isinstance(refused.exception, ConfigError)
    assert "'stories' is not the same" in str(refused.exception)
    assert "evaluation_split is 'test' and 'development'" in str(refused.exception)


def test_a_folder_with_another_run_is_refused_before_any_work(studied: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)another config is here:.*learn.steps: 4 -> 5.*variant mixed"):
        conduct(read_study(studied / "study.yaml", ["learn.steps=5"]), Heard())
