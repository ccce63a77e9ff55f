"""What a run has warned of is kept beside it, once each, whoever said it and whatever its files are like."""

import json
import math
from pathlib import Path

import pytest

from selfevo_jax.progress import Reporter
from selfevo_jax.run.lock import LockError, Owner
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.run.warned import MOST, WARNINGS, Warned, warned


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path)
    found._lock.own, found._lock._last = Owner.here(), math.inf  # as an opened run has it, without its thread
    return found


def said(run: RunDir, before: list[str], after: list[str], reporter: Reporter | None = None) -> None:
    """By a process: what it warns of before the run is open, and after."""
    reporter = reporter or Reporter(quiet=True)
    ear = Warned(reporter)
    for text in before:
        reporter.warn(text)
    ear.into(run)
    for text in after:
        reporter.warn(text)
    ear.close()
    reporter.warn("of another run")


def test_each_warning_is_kept_once_over_processes_in_the_order_in_which_it_was_first_said(run: RunDir) -> None:
    assert warned(run) == []
    said(run, ["a short cache"], ["2 of 8 rows", "a name \ud800"])
    said(run, ["a short cache", "a new one"], ["2 of 8 rows", "3 of 8 rows"])
    assert warned(run) == [
        "a short cache",
        "2 of 8 rows",
        "a name \ud800",
        "a new one",
        "3 of 8 rows",
    ]


def test_one_reporter_of_several_runs_tells_each_its_own(run: RunDir, tmp_path: Path) -> None:
    reporter, other = Reporter(quiet=True), RunDir(tmp_path / "other")
    other.root.mkdir()
    said(run, [], ["first"], reporter)
    said(other, [], ["second"], reporter)
    assert (warned(run), warned(other)) == (["first"], ["second"])


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}', b"\xff", b"3", b"[" * 100_000])
def test_what_cannot_be_read_is_nothing_said_and_is_written_anew(run: RunDir, content: bytes) -> None:
    (run.root / WARNINGS).write_bytes(content)
    assert warned(run) == []
    said(run, [], ["something"])
    assert warned(run) == ["something"]


def test_of_more_warnings_than_are_kept_the_last_ones_are_shown(run: RunDir) -> None:
    (run.root / WARNINGS).write_text(json.dumps([f"warning {n}" for n in range(MOST + 5)]))
    assert warned(run)[0] == "warning 5"
    assert len(warned(run)) == MOST


def test_a_run_goes_on_where_its_warnings_cannot_be_kept(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def lost() -> None:
        raise LockError("another process owns it")

    with monkeypatch.context() as patched:
        patched.setattr("selfevo_jax.storage.disk.Disk.note", full)
        said(run, ["before"], ["after"])
    monkeypatch.setattr(run, "check", lost)
    said(run, ["before"], ["after"])
    assert warned(run) == []
