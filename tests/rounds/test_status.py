"""Status says, by the disk alone, what a run is doing, and how the last process ended."""

import json
import os
import re
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from test_survival import copied
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.report import status
from selfevo_jax.run import RunDir
from selfevo_jax.run.lock import LOCK, Owner
from selfevo_jax.run.session import SESSION

TASK = {"title": "fine-tuning 0002", "done": 120, "total": 200, "unit": "steps", "note": "loss 0.612", "rate": 0.5}


def speaks(root: Path, owner: Owner, end: str | None = None, said: str = "") -> None:
    process = {"machine": owner.machine, "pid": owner.pid, "born": owner.born}
    tree = {"owner": str(owner), "process": process, "at": time.time(), "task": TASK, "end": end, "said": said}
    (root / SESSION).write_text(json.dumps(tree))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path)


def test_a_live_run_shows_its_step_its_rate_and_its_end(root: Path) -> None:
    owner = Owner.here()
    (root / LOCK).write_text(json.dumps(asdict(owner)))
    speaks(root, owner)
    found = status(RunDir(root))
    assert found.now is not None
    assert found.last_stop is None
    line = found.lines()[1]
    assert line.startswith("  now: fine-tuning 0002: 120 of 200 steps, 2.0 s a step, loss 0.612, 2m 40s left (until 20")
    assert found.to_dict()["now_seconds_left"] == pytest.approx(160)


def test_a_process_that_is_gone_without_a_word_was_killed(root: Path) -> None:
    gone = replace(Owner.here(), pid=2**22 + os.getpid(), born="1")
    (root / LOCK).write_text(json.dumps(asdict(gone)))
    speaks(root, gone)
    found = status(RunDir(root))
    assert (found.owner, found.now) == (None, None)
    assert str(found.last_stop).startswith(f"process {gone.pid} on {gone.host}, since ")
    assert "ended without a word: killed, out of memory" in str(found.last_stop)
    assert str(found.last_stop).endswith("in fine-tuning 0002 (120 of 200 steps)")


@pytest.mark.parametrize(
    ("end", "said", "shown"),
    [
        ("failed", "round 2: loss is nan", r"error at .*, in fine-tuning 0002 .*: round 2: loss is nan"),
        ("interrupted", "Ctrl-C", r"interrupted at .*: Ctrl-C"),
        ("told to end", "told to end (SIGTERM)", r"told to end at .*: told to end \(SIGTERM\)"),
    ],
)
def test_a_process_that_said_why_it_ended_is_quoted(root: Path, end: str, said: str, shown: str) -> None:
    speaks(root, Owner.here(), end, said)
    found = CliRunner().invoke(app, ["status", str(root)])
    assert found.exit_code == 0
    (line,) = [line for line in found.output.splitlines() if line.startswith("  last stop: ")]
    assert re.fullmatch(f"  last stop: {shown}", line)


def test_a_run_that_is_done_has_no_stop_to_explain(root: Path) -> None:
    speaks(root, Owner.here(), "complete")
    found = status(RunDir(root))
    assert (found.last_stop, found.left) == (None, 0)


def test_another_process_than_the_one_that_spoke_is_not_given_its_words(root: Path) -> None:
    owner = Owner.here()
    (root / LOCK).write_text(json.dumps(asdict(owner)))
    speaks(root, replace(owner, born="1"), "failed", "old")
    found = status(RunDir(root))
    assert found.now is None
    assert "old" in str(found.last_stop)


def test_a_run_that_is_watched_is_shown_until_it_stops(root: Path) -> None:
    shown = CliRunner().invoke(app, ["status", str(root), "--watch", "--json"])
    assert shown.exit_code == 0
    assert [json.loads(line)["owner"] for line in shown.output.splitlines()] == [None]


@pytest.mark.parametrize("name", ["{}@1", "{}@meta", "{}/checkpoints/0001", "{}"])
def test_a_run_is_named_by_its_checkpoints_too(finished: Path, name: str) -> None:
    shown = CliRunner().invoke(app, ["report", name.format(finished), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["run_dir"] == str(finished)
