"""Run directories that somebody else has made: nothing outside is touched, and each fault is one clear error."""

import json
import os
import time
from pathlib import Path

import pytest
from loop_helpers import Heard, config

from selfevo_jax.config import dump_config
from selfevo_jax.errors import SelfevoError
from selfevo_jax.report import status, summarize
from selfevo_jax.rounds import Controller
from selfevo_jax.run import RunDir, checksums, verify
from selfevo_jax.run.checksums import Checksums
from selfevo_jax.run.files import MAX_JSON
from selfevo_jax.run.lock import LOCK, LockError, RunLock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run that has just begun."""
    root = tmp_path / "run"
    root.mkdir()
    Checksums(root).repair()
    (root / "config.yaml").write_text(dump_config(config(root)))
    return root


def append_line(root: Path, name: object, digest: str = "sha256:0") -> None:
    """A line of checksums.jsonl that fits behind the others, as anybody can make it."""
    sums = Checksums(root)
    sums.names()
    row = {"file": name, "digest": digest, "bytes": 1}
    with (root / checksums.FILE).open("a") as out:
        out.write(json.dumps(row | {"chain": checksums._linked(sums._chain, row)}) + "\n")


@pytest.mark.parametrize(
    "name",
    [
        "costs.jsonl",
        "checksums.jsonl",
        "checkpoints",
        "training",
        "quarantine",
        "rounds/0001/rollouts/part-00000.jsonl",
    ],
)
def test_a_link_in_it_is_refused_before_anything_is_written(root: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("not a line of JSON")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(victim / "file" if name.endswith("jsonl") else victim)
    for look in (lambda: Controller(config(root), Heard()), lambda: verify(RunDir(root))):
        with pytest.raises(SelfevoError, match=rf"{name}: a link inside a run directory"):
            look()
    assert (victim / "file").read_text() == "not a line of JSON"
    assert not (root / LOCK).exists()


def test_a_run_directory_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "name").symlink_to(root)
    assert verify(RunDir(tmp_path / "name")).faults == []


@pytest.mark.parametrize("name", ["../victim", "/etc/hostname", "a/../../victim", "", ".", 1, None, ["x"]])
def test_checksums_speak_of_files_of_the_run_alone(root: Path, name: object) -> None:
    (root.parent / "victim").write_text("x")
    append_line(root, name)
    assert any(fault.startswith("checksums.jsonl:") for fault in verify(RunDir(root)).faults)


def test_what_is_no_regular_file_is_not_read(root: Path) -> None:
    os.mkfifo(root / "pipe")
    append_line(root, "pipe")
    sums = Checksums(root)
    sums.names()
    sums._write_head()
    assert "pipe: missing" in verify(RunDir(root)).faults


DEEP = "[" * 100_000


@pytest.mark.parametrize("content", ["[]", "1", '{"stories": {}}', '{"stories": 1}', "9" * 5000, DEEP, "\udcff", "{"])
def test_records_of_another_form_are_one_clear_error(root: Path, content: str) -> None:
    (root / "evaluations").mkdir()
    (root / "evaluations" / "base.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    if content != "[]":
        with pytest.raises(SelfevoError, match="not what selfevo writes there"):
            summarize(RunDir(root))
    try:
        status(RunDir(root))
    except SelfevoError as error:
        assert "not what selfevo writes there" in str(error)  # noqa: PT017


def test_an_oversized_record_is_not_read(root: Path) -> None:
    (root / "evaluations").mkdir()
    with (root / "evaluations" / "base.json").open("wb") as out:
        out.truncate(MAX_JSON + 1)
    with pytest.raises(SelfevoError, match=f"{MAX_JSON + 1} bytes"):
        summarize(RunDir(root))


@pytest.mark.parametrize("content", [b"", b"{}", DEEP.encode(), b"\xff"])
@pytest.mark.parametrize("years", [-1, 1])
def test_a_malformed_lock_of_another_time_is_taken_over(root: Path, content: bytes, years: int) -> None:
    (root / LOCK).write_bytes(content)
    then = time.time() + years * 365 * 86400
    os.utime(root / LOCK, (then, then))
    lock = RunLock(root, beat=0.02)
    lock.acquire()
    lock.release()
    (root / LOCK).mkdir()
    with pytest.raises(LockError, match=r"\.lock: the lock cannot be used \(Is a directory\)"):
        lock.acquire()
    lock.release()
