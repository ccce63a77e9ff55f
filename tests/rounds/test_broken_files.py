"""Each file of a run truncated, flipped, deleted, doubled: `verify` names it, and a run that goes on recovers, or ends
with one clear line that says what to do."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from breaking import WAYS, apply, broken, files
from loop_helpers import Heard, config, run, unfinished, weights
from test_survival import copied

from selfevo_jax.checkpoint.source import ASSETS
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.rounds import Controller
from selfevo_jax.run import RunDir, records, verify

pytestmark = pytest.mark.slow


def test_verify_names_every_broken_file_of_a_finished_run(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    found = verify(RunDir(root))
    assert (found.faults, found.checkpoints) == ([], 3)
    assert found.files > 30
    names = [name for name in files(root) if not name.startswith("tracking/")]  # what trackers keep is no record
    assert {*RunDir(root).sums.names(), "run.json", "checksums.jsonl"} == set(names)
    for number, name in enumerate(names):
        ways = list(WAYS)[number % len(WAYS) :][:1]
        for way in ways if "/params/" in name else {*ways, "deleted"}:
            with broken(root / name, way):
                assert any(fault.startswith(name) for fault in verify(RunDir(root)).faults), (name, way)


def test_verify_names_every_broken_file_of_an_unfinished_rollout(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    unfinished(root, 2, 7)
    faults = verify(RunDir(root)).faults
    assert all(fault.endswith("missing") for fault in faults)  # what was taken away of round 2 to make it unfinished
    for name in files(root / "rounds/0002"):
        for way in ("flipped", "a line twice"):  # one that is shorter is as a kill leaves it
            with broken(root / "rounds/0002" / name, way):
                assert any(f.startswith(f"rounds/0002/{name}") for f in verify(RunDir(root)).faults), (name, way)


REMADE = (
    "config.yaml",
    "fingerprints.json",
    "run.json",
    "costs.jsonl",
    "meta/meta_skill.jsonl",
    "meta/COMMITTED",
    "evaluations/base.json",
    "evaluations/0001/stories.jsonl",
    "rounds/0001/rollouts/part-00000.jsonl",
    "rounds/0001/rollouts/manifest.json",
    "rounds/0001/rollouts/logprobs.jsonl",
    "rounds/0001/self_curated.jsonl",
    "rounds/0001/controls.json",
    "rounds/0001/grades.jsonl",
    "rounds/0001/metrics.json",
    "rounds/0002/COMMITTED",
)
FOLLOWS = {"config.yaml", "fingerprints.json", "run.json", "costs.jsonl"}
"""What follows from the config, the data and the model, and what nothing is made from."""


def joins(root: Path) -> list[str]:
    """What is said when a process joins a run; nothing is computed."""
    prints = json.loads((root / "fingerprints.json").read_text())
    found = RunDir(root)
    found.open(config(root), {key: value for key, value in prints.items() if key != "config"})
    found.close()
    return found.take_notes()


def test_finished_files_that_are_taken_away_are_made_anew_as_they_were(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    wanted = records(root)
    for name in REMADE:
        (root / name).unlink()
    heard = run(config(root))
    for name in REMADE:
        assert any(name in line and "missing" in line for line in heard.lines), name
    assert verify(RunDir(root)).faults == []
    found = records(root)
    assert [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)] == ["config.yaml"]


def test_a_manifest_that_is_taken_away_is_made_anew_without_sampling(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    (root / "rounds/0001/rollouts/manifest.json").unlink()
    spent = (root / "costs.jsonl").read_bytes()
    run(config(root))
    assert verify(RunDir(root)).faults == []
    assert (root / "costs.jsonl").read_bytes() == spent


def test_a_finished_file_that_has_changed_is_refused_by_its_name_with_what_to_do(
    finished: Path, tmp_path: Path
) -> None:
    root = copied(finished, tmp_path)
    prints = (root / "fingerprints.json").read_bytes()
    joins(root)
    for name in set(REMADE) - FOLLOWS:
        for way in ("flipped", "doubled"):
            with (
                broken(root / name, way),
                pytest.raises(SelfevoError, match=rf"{name}: its content has changed since .* copy of the run, or rem"),
            ):
                joins(root)
    for name in ("config.yaml", "run.json"):
        for way in WAYS:
            apply(root / name, way)
            (note,) = joins(root)
            assert f"{root}/{name}: " in note
            assert verify(RunDir(root)).faults == []
    assert (root / "fingerprints.json").read_bytes() == prints


def test_a_checkpoint_with_a_broken_file_is_refused_and_trained_anew_when_its_folder_is_removed(
    finished: Path, tmp_path: Path
) -> None:
    root = copied(finished, tmp_path)
    array = max((root / "checkpoints/0002/params").rglob("*"), key=lambda file: file.stat().st_size)
    for file, way in ((array, "truncated"), (root / "checkpoints/0002/model.json", "deleted")):
        with broken(file, way), pytest.raises(SelfevoError) as refused:
            joins(root)
        said = str(refused.value)
        assert file.relative_to(root).as_posix() in said
        folder = re.search(r"or remove the folder (\S+) to have the checkpoint trained anew", said)
        assert folder is not None
    with (
        broken(array, "flipped"),
        pytest.raises(SelfevoError, match="its content has changed since .* remove the folder"),
    ):
        run(config(root, rounds__number=3))
    shutil.rmtree(folder[1])
    heard = run(config(root))
    assert any("its arrays are missing; the checkpoint is trained anew" in line for line in heard.lines)
    assert verify(RunDir(root)).faults == []
    for one, other in zip(weights(root / "checkpoints/0002"), weights(finished / "checkpoints/0002"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_unfinished_part_with_broken_rows_keeps_the_others_and_ends_as_if_undisturbed(
    finished: Path, tmp_path: Path
) -> None:
    root = copied(finished, tmp_path)
    unfinished(root, 2, 9)
    part = root / "rounds/0002/rollouts/part-00000.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"sample", b"sbmple")
    foreign = b'{"id": "x", "sample": 0}\n'
    part.write_bytes(b"".join([*lines[:5], lines[4], foreign, *lines[5:]]))
    heard = run(config(root))
    assert "  8 finished rollouts are kept" in heard.lines
    assert any("3 of 11 rows are changed, doubled or of another run; they are moved" in line for line in heard.lines)
    assert verify(RunDir(root)).faults == []
    found, wanted = records(root), records(finished)
    assert [name for name in wanted if found.get(name) != wanted[name] and name != "report.json"] == ["config.yaml"]


def test_another_base_under_the_same_path_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(ASSETS / "stories", model)
    given = config(tmp_path / "run", model={"source": str(model)})
    Controller(given, Heard()).close()
    Controller(given, Heard()).close()
    file = model / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])  # the same size, names and shapes
    with pytest.raises(ConfigError, match="model: other content than at the start"):
        Controller(given, Heard())
