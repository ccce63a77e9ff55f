"""Whatever `run_dir` is, there is one clear line and no traceback; looking at a run writes nothing."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from loop_helpers import Heard
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.config import parse_config
from selfevo_jax.data import MetaRow, QARow
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.report import status, summarize
from selfevo_jax.rounds.checkpoints import tell_aside
from selfevo_jax.rounds.meta_stage import meta_rows, qa_rows
from selfevo_jax.run import RunDir, verify
from selfevo_jax.run.identity import config_differences
from selfevo_jax.storage import place
from selfevo_jax.storage.disk import Disk
from selfevo_jax.tasks import BuiltMeta

TREE = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}}


def opened(root: str | Path) -> None:
    run = RunDir(root)
    run.open(parse_config(TREE), {})
    run.close()


def test_a_run_dir_that_cannot_be_one_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, said in (
        ("file", "a file where a run directory needs a folder"),
        ("file/below", "a file where a run directory needs a folder"),
        ("n" * 300, r"cannot be read \(File name too long\)"),
        ("a\0b", "a name with a NUL byte"),
    ):
        for act in (opened, lambda root: status(RunDir(root)), lambda root: verify(RunDir(root))):
            with pytest.raises(SelfevoError, match=said) as refused:
                act(f"{tmp_path}/{name}")
            assert "\n" not in str(refused.value)


def test_a_home_that_is_written_as_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    opened("~/runs/first")
    assert (tmp_path / "home/runs/first/run.json").exists()
    assert not (tmp_path / "~").exists()
    with pytest.raises(ConfigError, match="no home folder is known for it; write the whole path"):
        place("~nobody-of-this-name/x")


def test_a_folder_that_this_user_may_not_read_or_write_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path / "run")

    def forbidden(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(args[-1]))

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", forbidden)
        with pytest.raises(SelfevoError, match=r"run: cannot be read \(Permission denied\)"):
            RunDir(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("selfevo_jax.storage.disk.put", forbidden)
        with pytest.raises(SelfevoError, match=r"run/.lock: could not be written \(Permission denied\)"):
            opened(tmp_path / "run")


def test_status_verify_and_report_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "run"
    opened(root)
    before = {file: file.stat().st_mtime_ns for file in [root, *root.rglob("*")]}
    for words in (["report", str(root)], ["report", "--json", str(root)], ["status", str(root)], ["verify", str(root)]):
        shown = CliRunner().invoke(app, words)
        assert shown.exit_code == 0, shown.output
        assert shown.output.strip()
    assert {file: file.stat().st_mtime_ns for file in [root, *root.rglob("*")]} == before
    monkeypatch.setattr(Disk, "write", lambda *_: pytest.fail("written"))
    summarize(RunDir(root))


def test_another_order_of_the_evaluation_sets_is_another_config() -> None:
    data = {"prompts": "p", "meta_skill": "m"}
    old, new = (
        parse_config({**TREE, "data": {**data, "evaluation": dict.fromkeys(names, "builtin:gsm8k/test")}})
        for names in ("ab", "ba")
    )
    assert config_differences(old, new) == ["data.evaluation: the order of the sets, a, b -> b, a"]


INTERRUPTED = """
import os, signal, sys, time
from selfevo_jax import process
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
process.end_at_once_on_second_interrupt()
try:
    print("up", flush=True)
    time.sleep(60)
finally:
    print("ending", flush=True)
    time.sleep(60)
"""


def test_a_second_interrupt_ends_the_process_without_a_traceback() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in ("up\n", "ending\n"):
        assert child.stdout.readline() == line
        child.send_signal(2)
    assert child.wait(20) == 130
    assert child.stderr is not None
    assert child.stderr.read() == ""


@pytest.mark.parametrize("gone", [["own_answers.jsonl"], ["counts.json"], ["counts.json", "own_answers.jsonl"]])
def test_what_is_lost_beside_d_meta_is_made_anew_and_taught(tmp_path: Path, gone: list[str]) -> None:
    rows, own = [MetaRow("m", "Say 1.", "1", "Verdict: correct", "1", True)], [QARow("q", "Say it.", "It.")]
    made = BuiltMeta(rows, {"answers used": 2}, own)
    task = SimpleNamespace(has_meta=True, questions=lambda: None, meta_rows=lambda _: made, qa_rows=lambda: [])

    def joined() -> SimpleNamespace:
        run = RunDir(tmp_path / "run")
        run.open(parse_config(TREE), {})
        return SimpleNamespace(task=task, dir=run, config=parse_config(TREE), reporter=Heard())

    loop = joined()
    assert (meta_rows(loop), qa_rows(loop)) == (rows, own)
    loop.dir.close()
    for name in gone:
        (loop.dir.root / "meta" / name).unlink()
    loop = joined()
    assert (meta_rows(loop), qa_rows(loop), loop.dir.lost()) == (rows, own, False)
    loop.dir.close()
    assert verify(loop.dir).faults == []


def test_what_may_be_a_whole_copy_is_told_of_in_any_folder() -> None:
    heard = Heard()
    tell_aside(["/tmp/run/quarantine/0001.params.1", "/tmp/run/quarantine/0001.params.orbax-checkpoint-tmp.1"], heard)
    assert ["If it is a whole copy" in line for line in heard.lines] == [True, False]
