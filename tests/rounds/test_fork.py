"""A run that begins from a finished point of another one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from loop_helpers import Heard, config, run, texts, weights
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.config import Config, load_config
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.run import RunDir, fork, share, shared, verify

pytestmark = pytest.mark.slow


def forked(source: Path, root: Path, point: str, **changes: object) -> Config:
    made = fork(RunDir(source), config(root, **changes), point, Heard())
    assert made.files > 0
    return load_config(root / "config.yaml")


def test_a_fork_without_changes_goes_on_to_the_very_end_of_its_source(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "new"
    loaded = forked(finished, root, "1", track="toys:Diary")
    assert not (root / "rounds/0002").exists()
    assert not (root / "costs.jsonl").exists()
    assert verify(RunDir(root)).faults == []
    run(loaded)
    assert texts(root) == texts(finished)
    for old, new in zip(weights(finished / "checkpoints/0002"), weights(root / "checkpoints/0002"), strict=True):
        np.testing.assert_array_equal(old, new)
    assert verify(RunDir(root)).faults == []
    record = json.loads((root / "fork.json").read_text())
    assert (record["from"], record["point"], record["changed"]) == (str(finished), "1", {})


def test_the_command_forks_with_other_settings_and_says_how_to_go_on(finished: Path, tmp_path: Path) -> None:
    root, source = tmp_path / "new", tmp_path / "source"
    shutil.copytree(finished, source)
    changes = ["learn.steps=7", "rounds.number=1"]
    done = CliRunner().invoke(app, ["fork", str(source), str(root), "--from", "meta", *changes])
    assert done.exit_code == 0, done.output
    assert "learn.steps: 4 -> 7" in done.output
    assert f"selfevo evolve {root}/config.yaml" in done.output
    loaded = load_config(root / "config.yaml")
    assert (loaded.learn.steps, loaded.run_dir) == (7, str(root))
    assert not (root / "rounds").exists()
    # the source may change or go: files were linked, and a run replaces files rather than change them
    (source / "evaluations/meta.json").write_text("{}")
    shutil.rmtree(source / "checkpoints")
    assert [f for f in verify(RunDir(root)).faults if "evaluations/meta.json" not in f] == []


@pytest.mark.parametrize(
    ("point", "changes", "said"),
    [
        ("meta", {"seed": 5}, "seed: the draws"),
        ("meta", {"meta": {"steps": 9}}, "meta.steps: the training of M_meta"),
        ("meta", {"format": {"judge": "Now?"}}, "format.judge: the prompts"),
        ("1", {"judge": {"kind": "rating"}}, "judge.kind: the verdicts of the kept rounds"),
        ("3", {}, "has not finished it"),
        ("7", {}, "has not finished it"),
        ("first", {}, "expected base, meta or the number"),
        ("0", {}, "expected base, meta or the number"),
    ],
)
def test_what_the_kept_files_rest_on_cannot_change(finished: Path, tmp_path: Path, point, changes, said) -> None:
    with pytest.raises(ConfigError, match=said):
        fork(RunDir(finished), config(tmp_path / "new", **changes), point, Heard())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("point", "changes", "again"),
    [
        ("base", {"seed": 5, "meta": {"steps": 9}, "learn__steps": 2}, False),
        ("meta", {"learn__steps": 2, "rounds__select": "feedback", "data__prompts_per_round": 8}, False),
        ("1", {"sampling__respond": {"temperature": 0.3, "max_new_tokens": 8}, "rounds__number": 9}, False),
        ("1", {"evaluate": {"modes": ["direct"]}}, True),
        ("meta", {"judge": {"kind": "rating"}}, True),
    ],
)
def test_other_keys_are_free_and_figures_that_rest_on_them_are_made_anew(
    finished: Path, tmp_path: Path, point, changes, again
) -> None:
    root = tmp_path / "new"
    made = fork(RunDir(finished), config(root, **changes), point, Heard())
    assert made.measured_again == again
    assert (root / "evaluations/base.json").exists() != again
    assert (root / "checkpoints/meta").exists() == (point != "base")
    assert (root / "checkpoints/0001").exists() == (point == "1")
    assert not (root / "checkpoints/0002").exists()
    assert verify(RunDir(root)).faults == []


def test_a_changed_file_is_not_carried_on(finished: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(finished, source)
    file = source / "meta/meta_skill.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SelfevoError, match="meta/meta_skill.jsonl: its content has changed; a fork would carry it on"):
        fork(RunDir(source), config(tmp_path / "new"), "meta", Heard())
    assert not (tmp_path / "new").exists()


def test_a_fork_that_was_broken_off_is_no_run_and_is_made_whole_by_the_same_call(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, seen = tmp_path / "new", []
    with monkeypatch.context() as patched:

        def link(source, to):
            seen.append(to)
            if len(seen) > 5:
                raise KeyboardInterrupt
            shutil.copyfile(source, to)

        patched.setattr("os.link", link)
        with pytest.raises(KeyboardInterrupt):
            fork(RunDir(finished), config(root), "1", Heard())
    with pytest.raises(ConfigError, match="a fork was broken off here"):
        run(config(root))
    forked(finished, root, "1")
    assert verify(RunDir(root)).faults == []


def test_a_fork_takes_no_place_of_another_run(finished: Path, tmp_path: Path) -> None:
    forked(finished, tmp_path / "new", "base")
    with pytest.raises(ConfigError, match="a run is there already"):
        fork(RunDir(finished), config(tmp_path / "new"), "base", Heard())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and not a run directory"):
        fork(RunDir(finished), config(tmp_path / "other"), "base", Heard())
    assert (tmp_path / "other/notes.txt").read_text() == "mine"


def test_what_a_run_takes_from_another_is_whole_or_taken_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, source = config(tmp_path / "new", rounds__variant="continual_self_only"), RunDir(finished)
    with monkeypatch.context() as patched:
        unlink = Path.unlink

        def broken_off(self: Path, missing_ok: bool = False) -> None:
            if self.name == ".forking":  # the last of all
                raise KeyboardInterrupt
            unlink(self, missing_ok)

        patched.setattr(Path, "unlink", broken_off)
        with pytest.raises(KeyboardInterrupt):
            share(new, [source], Heard())
    assert (tmp_path / "new/config.yaml").exists()
    assert not RunDir(new.run_dir).is_begun()
    assert share(config(tmp_path / "third"), [RunDir(new.run_dir)], Heard()) == []
    taken = share(new, [source], Heard())
    assert [one.artefact for one in taken][-1] == "controls of round 1"
    assert shared(RunDir(new.run_dir)) == taken
    assert verify(RunDir(new.run_dir)).faults == []


def test_what_a_broken_off_call_has_left_is_cleared_where_nothing_can_be_taken_any_more(
    finished: Path, tmp_path: Path
) -> None:
    root = tmp_path / "new"
    shutil.copytree(finished / "meta", root / "meta")
    (root / ".forking").touch()
    assert share(config(root), [], Heard()) == []
    assert not (root / "meta").exists()
    assert RunDir(root).is_begun()
    assert verify(RunDir(root)).faults == []


def test_a_run_takes_nothing_from_a_fork_whose_rounds_had_other_settings(finished: Path, tmp_path: Path) -> None:
    other = config(tmp_path / "fork", rounds__select="random")
    fork(RunDir(finished), other, "1", Heard())
    assert share(config(tmp_path / "new", rounds__select="random"), [RunDir(other.run_dir)], Heard()) == []


def test_a_changed_file_is_not_taken(finished: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(finished, source)
    (source / "evaluations/meta.json").write_text("{}")
    with pytest.raises(SelfevoError, match=r"meta.json: its content has changed; .* remove that run to have it made"):
        share(config(tmp_path / "new"), [RunDir(source)], Heard())
