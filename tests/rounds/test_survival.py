"""What a run survives, and what it refuses: notices, changed bytes, a second writer; and what it says of itself."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from lock_helpers import holder_of
from loop_helpers import Heard, config, plain, run, texts, weights

from selfevo_jax import notice
from selfevo_jax.checkpoint import is_complete
from selfevo_jax.errors import Preempted
from selfevo_jax.report import status, summarize
from selfevo_jax.rounds import Controller
from selfevo_jax.run import RunDir, verify
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.journal import Journal
from selfevo_jax.run.lock import LockError
from selfevo_jax.run.names import SCORES
from selfevo_jax.sample import shapes

pytestmark = pytest.mark.slow


def copied(finished: Path, folder: Path) -> Path:
    shutil.copytree(finished, folder / "run")
    return folder / "run"


def test_a_notice_in_a_rollout_keeps_the_finished_chains_and_the_run_ends_as_if_undisturbed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copied(finished, tmp_path)
    for name in ("rounds/0002", "checkpoints/0002", "evaluations/0002"):
        shutil.rmtree(root / name)
    (root / "evaluations/0002.json").unlink()
    append = Journal.append

    def append_and_tell(self: Journal, row: dict) -> None:
        append(self, row)
        if self.path.name.startswith("part") and len(self.rows) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, notice.heeded():
        patched.setattr(Journal, "append", append_and_tell)
        with pytest.raises(Preempted, match="while round 2: respond, judge, refine; the same command goes on"):
            Controller(config(root), Heard()).run()
    part = root / "rounds/0002/rollouts/part-00000.jsonl"
    kept = part.read_bytes()
    phases = {phase.name: phase for phase in status(RunDir(root)).phases}
    assert phases["round 2: rollouts"].state == "partly"
    assert phases["round 2: rollouts"].detail == f"{kept.count(10)} of up to 16 chains"
    assert phases["fine-tune 0002"].state == "left"
    scores = root / "rounds/0002" / SCORES
    first, *others = scores.read_bytes().splitlines(keepends=True)
    assert 1 + len(others) == kept.count(10)
    lost, scored = json.loads(first), plain(b"".join(others))
    scores.write_bytes(b"".join(others))
    heard = run(config(root))
    assert f"  {kept.count(10)} finished rollouts are kept" in heard.lines
    assert scored <= set(scores.read_bytes().splitlines())
    assert f"warning: round 2: 1 of 16 rollouts have no row in {scores}" in heard.lines
    have, all_names = ([(row["id"], row["sample"]) for row in read_rows(file)] for file in (scores, part))
    assert have == [name for name in all_names if name != (lost["id"], lost["sample"])]
    assert plain(kept) <= set(part.read_bytes().splitlines())
    assert texts(root) == texts(finished)
    for one, other in zip(weights(root / "checkpoints/0002"), weights(finished / "checkpoints/0002"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_begun_on_8_devices_goes_on_with_4_and_with_1(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, append = tmp_path / "run", Journal.append

    def stopping(round: int):
        def append_and_tell(self: Journal, row: dict) -> None:
            append(self, row)
            if self.path.parent.parent.name == f"{round:04d}" and len(self.rows) == 3:
                notice.give("a test")

        return append_and_tell

    for round, mesh in ((1, {"data": 4, "fsdp": 2}), (2, {"data": 1, "fsdp": 4})):
        with monkeypatch.context() as patched, notice.heeded():
            patched.setattr(Journal, "append", stopping(round))
            # each is a program to compile for the mesh
            patched.setattr(shapes, "LENGTH_TOKENS", 1 << 30)
            patched.setattr(shapes, "decode_rows", lambda slots, _: (slots,))
            with pytest.raises(Preempted, match="a test"):
                run(config(root, mesh=mesh))
    kept = (root / "rounds/0002/rollouts/part-00000.jsonl").read_bytes()
    run(config(root))
    assert plain(kept) <= set((root / "rounds/0002/rollouts/part-00000.jsonl").read_bytes().splitlines())
    assert verify(RunDir(root)).faults == []
    assert texts(root).keys() == texts(finished).keys()
    for one, other in zip(weights(root / "checkpoints/meta"), weights(finished / "checkpoints/meta"), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert (
        texts(root)["rounds/0001/rollouts/part-00000.jsonl"] == texts(finished)["rounds/0001/rollouts/part-00000.jsonl"]
    )


def test_missing_rows_and_missing_checkpoints_are_named(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    part = root / "rounds/0001/rollouts/part-00000.jsonl"
    part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:-1]))
    shutil.rmtree(root / "checkpoints/0001/params")
    faults = verify(RunDir(root)).faults
    assert f"{part.relative_to(root)}: 15 rows, its manifest says 16" in faults
    assert "checkpoints/0001: no finished checkpoint, but the run's records name it" in faults


def test_a_finished_run_says_so_and_that_nobody_is_at_it(finished: Path) -> None:
    found = status(RunDir(finished))
    assert {phase.state for phase in found.phases} == {"done"}
    assert found.lines()[-1] == "All is done."
    assert json.loads(json.dumps(found.to_dict()))["left"] == 0


def test_a_second_process_is_refused_and_status_names_the_first(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    (root / ".lock").unlink(missing_ok=True)
    with holder_of(root) as holder:
        with pytest.raises(LockError, match=f"process {holder.pid} on"):
            run(config(root))
        assert f"process {holder.pid} on" in str(status(RunDir(root)).owner)
        assert verify(RunDir(root)).faults == []
    assert any(f"taken over from process {holder.pid}" in line for line in run(config(root)).lines)


def test_checkpoints_that_are_not_kept_are_removed_and_the_run_goes_on(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    saving = {"keep_last": 1, "keep_best": False}
    heard = run(config(root, saving=saving, rounds__number=3))
    assert "  checkpoint meta is removed (saving.keep_last)" in heard.lines
    assert [is_complete(root / "checkpoints" / name) for name in ("meta", "0001", "0002", "0003")] == [False] * 3 + [
        True
    ]
    assert verify(RunDir(root)).faults == []
    assert not [line for line in run(config(root, saving=saving, rounds__number=3)).lines if "fine-tuning" in line]
    assert summarize(RunDir(root)).complete
