import errno
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import quick_processes
import typer
from lock_helpers import owned_by_a_living_process
from typer.testing import CliRunner

import selfevo_jax
from selfevo_jax import cli, process
from selfevo_jax.checkpoint import open_model
from selfevo_jax.cli import app
from selfevo_jax.cli.asking import _asked
from selfevo_jax.cli.common import ORDER, finite
from selfevo_jax.config import load_config
from selfevo_jax.data import read_meta
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.lazy import install
from selfevo_jax.run import RunDir
from selfevo_jax.storage import disk
from selfevo_jax.storage.disk import told

COMMANDS = [
    *(
        "evolve",
        "eval",
        "chat",
        "generate",
        "init",
        "keys",
        "import",
        "export",
        "meta-data",
        "annotate",
        "report",
        "status",
        "doctor",
    )
]
runner = CliRunner()
QUICKSTART = str(Path(__file__).parent.parent / "configs" / "quickstart.yaml")


def selfevo_at_once(*args: str) -> subprocess.CompletedProcess[str]:
    return quick_processes.run(["-m", "selfevo_jax", *args], 120)


def selfevo(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selfevo_jax", *args], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example(command: str) -> None:
    shown = runner.invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert f"selfevo {command} " in shown.output


def test_help_lists_every_command_in_the_order_in_which_one_meets_them() -> None:
    shown = runner.invoke(app, ["--help"]).output
    at = [shown.index(f"│ {command} ") for command in ORDER]
    assert at == sorted(at)
    assert set(ORDER) == set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "1e300"])
def test_an_option_takes_no_number_that_is_none_or_beyond_all_use(number: str) -> None:
    options = {"status": ["--every"], "evolve": ["--start-limit"], "meta-data": ["--right-share"]}
    options["generate"] = ["--temperature", "--start-limit"] if number != "1e300" else ["--start-limit"]
    for command, names in options.items():
        for name in names:
            done = runner.invoke(app, [command, name, number])
            assert (done.exit_code, f"Invalid value for '{name}'" in done.output) == (2, True), done.output


def test_every_option_that_takes_a_number_refuses_nan_but_those_that_a_section_of_settings_reads() -> None:
    unchecked = set()
    for command in app.registered_commands:
        for option in inspect.signature(command.callback, eval_str=True).parameters.values():
            kind, *told = typing.get_args(option.annotation) or (None,)
            if float in (kind, *typing.get_args(kind)) and told[0].callback is not finite:
                unchecked.add(command.name)
    assert unchecked == {"annotate"}


def test_a_users_error_is_one_clear_line_and_exit_code_2(tmp_path: Path) -> None:
    bad = tmp_path / "c.yaml"
    bad.write_text("run_dir: x\nmodel: {source: builtin:stories}\ndata: {stories: {}}\nround: {number: 1}\n")
    done = selfevo("evolve", str(bad))
    assert done.returncode == 2
    assert "unknown key 'round'; did you mean 'rounds'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_after_an_error_nothing_is_waited_for() -> None:
    program = """
import threading, time
from selfevo_jax import cli
from selfevo_jax.errors import ModelError
def app():
    threading.Thread(target=time.sleep, args=(600,)).start()
    raise ModelError("states: the training could not be saved")
cli.app = app
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "error: states: the training could not be saved\n"


def test_a_platform_that_is_absent_is_refused_and_never_replaced() -> None:
    done = selfevo("doctor", "--platform", "tpu")
    assert done.returncode == 2
    assert "platform=tpu: not available" in done.stderr
    assert "Another process" not in done.stderr
    assert "this machine shows no TPU" in done.stderr or install("tpu") in done.stderr
    done = selfevo_at_once("doctor", "--platform", "gpu")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: platform=gpu: not available")
    assert done.stderr.endswith(f"install it with: {install('cuda')}\n")
    assert "Traceback" not in done.stderr
    shown = selfevo_at_once("doctor", "--platform", "cpu")
    assert shown.returncode == 0
    assert "platform cpu: 8 x cpu" in shown.stdout


def test_meta_data_writes_balanced_rows_that_read_back(tmp_path: Path) -> None:
    out = tmp_path / "meta.jsonl"
    done = runner.invoke(app, ["meta-data", "builtin:gsm8k/train", str(out), "--limit", "40"])
    assert done.exit_code == 0, done.output
    rows = read_meta(out)
    assert len(rows) == 40
    assert sum(row.good for row in rows) == 20


def refused(*args: str) -> str:
    done = runner.invoke(app, args)
    assert isinstance(done.exception, SelfevoError), done.output
    return str(done.exception)


def test_a_file_that_exists_is_written_over_by_force_alone(tmp_path: Path) -> None:
    out = tmp_path / "meta.jsonl"
    out.write_text("mine")
    command = ["meta-data", "builtin:gsm8k/train", str(out), "--limit", "4"]
    assert "exists already; name another file, or write over it with --force" in refused(*command)
    assert out.read_text() == "mine"
    assert runner.invoke(app, [*command, "--force"]).exit_code == 0
    assert len(read_meta(out)) == 4
    (folder := tmp_path / "folder.jsonl").mkdir()
    assert "a folder" in refused("meta-data", "builtin:gsm8k/train", str(folder), "--force")
    assert "its folder cannot be made" in refused("meta-data", "builtin:gsm8k/train", str(out / "x" / "y.jsonl"))
    out.write_text("mine")
    assert "exists already" in refused("eval", QUICKSTART, "--out", str(out))
    assert out.read_text() == "mine"


@pytest.mark.parametrize("spelling", ["same", "dots", "link"])
def test_a_file_that_a_command_reads_is_never_its_output(tmp_path: Path, spelling: str) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Why?", "answer": "So."}\n')
    out = {"same": rows, "dots": tmp_path / "x" / ".." / "rows.jsonl", "link": tmp_path / "link.jsonl"}[spelling]
    (tmp_path / "x").mkdir()
    (tmp_path / "link.jsonl").symlink_to(rows)
    for command in (
        ["generate", QUICKSTART, "--prompts", str(rows), "--out", str(out)],
        ["meta-data", str(rows), str(out)],
        ["winrate", QUICKSTART, "--against", str(rows), "--out", str(out)],
        ["eval", QUICKSTART, "--harness", str(rows), "--out", str(out)],
    ):
        said = refused(*command, "--force")
        assert said.endswith(f"is {rows} itself, which is read and would be lost; name another file")
    assert rows.read_text().startswith('{"prompt"')


GOES_ON = ("annotate",)
"""Commands that add to what they have written before."""


def test_every_command_that_writes_what_a_user_names_asks_for_force_to_write_over_it() -> None:
    commands = typer.main.get_command(app).commands
    names = {name: {param.name for param in command.params} for name, command in commands.items()}
    writing = {name for name, params in names.items() if params & {"out", "html"}} - set(GOES_ON)
    assert writing >= {"import", "export", "meta-data", "eval", "winrate", "generate", "report"}
    assert {name for name in {*writing, "init"} if "force" not in names[name]} == set()


@pytest.mark.parametrize(
    "command",
    [
        ["import", "builtin:stories", "OUT"],
        ["export", "builtin:stories", "OUT"],
        ["eval", QUICKSTART, "--out", "OUT"],
        ["eval", QUICKSTART, "--harness", "gsm8k", "--out", "OUT"],
        ["winrate", QUICKSTART, "--against", "builtin:stories", "--out", "OUT"],
    ],
    ids=lambda command: f"{command[0]}{len(command)}",
)
def test_of_two_calls_that_write_one_place_the_second_is_refused_before_any_work(
    tmp_path: Path, command: list[str]
) -> None:
    out, lock = tmp_path / "out.jsonl", tmp_path / ".out.jsonl.lock"
    other = owned_by_a_living_process(lock)
    said = refused(*[str(out) if word == "OUT" else word for word in command])
    assert said.startswith(f"{out}: process {other.pid} on ")
    assert "is writing this file" in said
    assert list(tmp_path.iterdir()) == [lock]


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows"])
def test_rows_are_written_to_no_file_that_would_be_read_in_another_form(tmp_path: Path, name: str) -> None:
    out = str(tmp_path / name)
    for command in (
        ["meta-data", "builtin:gsm8k/train", out],
        ["generate", QUICKSTART, "--prompts", "builtin:gsm8k/train", "--out", out],
        ["winrate", QUICKSTART, "--against", "builtin:stories", "--out", out],
        ["annotate", "builtin:gsm8k/train", out, "--kind", "qa", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m"],
    ):
        assert "ends in .jsonl" in refused(*command)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_not_imported(tmp_path: Path) -> None:
    source = shutil.copytree(Path(selfevo_jax.__file__).parent / "assets" / "stories", tmp_path / "spoilt")
    file = source / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4:] = b"\xff" * 4
    file.write_bytes(content)
    assert "has NaN or infinite numbers" in refused("import", str(source), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_moved_by_force_alone(tmp_path: Path) -> None:
    base = Path(selfevo_jax.__file__).parent / "assets" / "stories"
    out = shutil.copytree(base, tmp_path / "model")
    assert "not empty; name another folder" in refused("import", "builtin:stories", str(out))
    assert "holds" in refused("import", str(out), str(out), "--force")
    assert "holds" in refused("import", str(out), str(tmp_path), "--force")
    assert "a file" in refused("import", "builtin:stories", str(out / "model.json"), "--force")
    done = runner.invoke(app, ["import", "builtin:stories", str(out), "--force"])
    assert done.exit_code == 0, done.output
    assert open_model(str(out)).config == open_model("builtin:stories").config
    assert sorted(p.name for p in (tmp_path / "model.before.1").iterdir()) == sorted(p.name for p in base.iterdir())


SMALL = ["mesh.data=1", "data.stories.evaluation_rows=8", "sampling.slots=8"]


@pytest.mark.slow
def test_a_model_is_imported_measured_and_talked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, out = "models/stories", Path("figures.json")
    done = runner.invoke(app, ["import", "builtin:stories", model])
    assert done.exit_code == 0, done.output
    assert "348,192 parameters" in done.output
    modes = ["evaluate.modes=[direct,refined,consistency,both]", "evaluate.k=2", "data.ordinary=ordinary.jsonl"]
    Path("ordinary.jsonl").write_text('{"prompt": "Say 2.", "answer": "2."}\n{"prompt": "Say 3.", "answer": "3."}\n')
    done = runner.invoke(app, ["eval", QUICKSTART, *SMALL, *modes, "--model", model, "--out", str(out)])
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())["stories"]
    assert json.loads(out.read_text())["ordinary answers"]["log_likelihood"]["n"] == 2
    assert "nats a token, 2 rows" in done.output
    assert "stories texts: clipped" in done.output
    for mode in ("direct", "refined", "consistency", "both"):
        assert figures[mode]["n"] == 8
        assert f"stories {mode}: " in done.output
    texts = [json.loads(line) for line in Path("figures-stories.jsonl").read_text().splitlines()]
    right = {row["id"]: row["grades"]["direct"]["number"]["value"] == 1.0 for row in texts}
    assert right == figures["right"]["direct"]
    assert all(row["prompt"] and row["candidates"][0]["text"] and row["columns"]["answer"] for row in texts)
    story = "Mia has 7 shells. Then Mia finds 5. How many now?"
    done = runner.invoke(app, ["chat", QUICKSTART, *SMALL, "--direct", "--model", model, "--prompt", story])
    assert done.exit_code == 0, done.output
    assert done.output == "answer: The answer is 12.\n"
    done = runner.invoke(app, ["chat", QUICKSTART, *SMALL, "--model", model], input=f"{story}\n\n")
    assert done.exit_code == 0, done.output
    assert "answer: The answer is 12.\n  feedback: " in done.output


@pytest.mark.slow
def test_a_run_whose_filter_keeps_nothing_shows_its_table_and_says_why_it_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    few = ["data.stories.meta_questions=4", "data.prompts_per_round=8", "meta.steps=1", "meta.warmup_steps=0"]
    blind = ["sampling.feedback.max_new_tokens=1", "rounds.number=1", "rounds.controls=0"]
    done = runner.invoke(app, ["evolve", QUICKSTART, *SMALL, *few, *blind, f"run_dir={os.path.relpath(run)}"])
    assert isinstance(done.exception, SelfevoError), done.output
    assert done.exception.exit_code == 2
    assert "round 1: 0 of 8 rows passed the filter" in str(done.exception)
    assert "meta" in done.output
    assert [row["checkpoint"] for row in json.loads((run / "report.json").read_text())["rows"]] == ["base", "meta"]
    assert '"at":"round 1"' in (run / "report.html").read_text()  # its chains, although the round is not trained
    shown = selfevo_at_once("report", str(run), "--json")
    assert json.loads(shown.stdout)["complete"] is False


def test_report_of_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    done = selfevo_at_once("report", str(tmp_path))
    assert done.returncode == 2
    assert "no run directory" in done.stderr
    assert json.dumps(str(tmp_path))[1:-1] in done.stderr
    (tmp_path / "study.json").touch()
    told = selfevo_at_once("report", str(tmp_path)).stderr
    assert f"but the folder of a study; name one of its runs, such as {tmp_path}/VARIANT/seed-N" in told


def test_a_fork_that_its_method_would_refuse_is_not_begun(tmp_path: Path) -> None:
    run, new = RunDir(tmp_path / "run"), tmp_path / "new"
    run.open(load_config(QUICKSTART), {})
    run.close()
    done = selfevo_at_once("fork", str(run.root), str(new), "method.name=raft")
    assert (done.returncode, new.exists()) == (2, False)
    assert "rounds.turns: found 1, but raft takes 0" in done.stderr
    assert "rounds.select: found feedback, but raft takes best_of_n" in done.stderr


@pytest.mark.parametrize("below", ["", "/runs/first"])
def test_a_run_directory_that_is_a_file_or_below_one_is_refused_by_the_files_name(tmp_path: Path, below: str) -> None:
    (taken := tmp_path / "taken").write_text("x")
    with pytest.raises(SelfevoError, match=f"{re.escape(str(taken))}: a file where a run directory needs a folder"):
        RunDir(f"{taken}{below}")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "Name a folder that you may write in"),
        (errno.EROFS, "Name a folder that you may write in"),
        (errno.ENAMETOOLONG, "Choose a shorter name"),
        (errno.ENOSPC, "Make room"),
    ],
)
def test_a_failed_write_names_the_remedy_for_its_cause(tmp_path: Path, number: int, remedy: str) -> None:
    with pytest.raises(SelfevoError, match=remedy), told(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_disk_that_is_full_is_one_line_and_leaves_neither_rows_nor_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as of a write: without a name

    monkeypatch.setattr(disk, "put", full)
    for command in (["meta-data", "builtin:gsm8k/train"], ["import", "builtin:stories"]):
        assert "Make room" in refused(*command, str(tmp_path / "out.jsonl"))
        assert list(tmp_path.iterdir()) == []
    for name, value in (("leave_now", sys.exit), ("prepare", lambda: None)):
        monkeypatch.setattr(process, name, value)
    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err.startswith(f"error: a file: {os.strerror(errno.ENOSPC)}; look at the disk")


def test_an_argument_and_a_prompt_that_are_not_utf_8_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "leave_now", sys.exit)
    monkeypatch.setattr(process, "prepare", lambda: None)
    monkeypatch.setattr(sys, "argv", ["selfevo", "status", "runs/caf\udce9"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: runs/caf\ufffd: not UTF-8; write texts and names of files as UTF-8\n"
    monkeypatch.setattr("builtins.input", lambda: "caf\udce9")
    with pytest.raises(ConfigError, match="the prompt: half of a surrogate pair"):
        list(_asked())
    monkeypatch.setattr("builtins.input", lambda: b"caf\xe9".decode("utf-8"))
    with pytest.raises(ConfigError, match="the prompt: .* can't decode byte 0xe9"):
        list(_asked())


def test_most_of_a_gpu_is_taken_unless_the_environment_says_another_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", lambda: None)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")  # so that nothing of this process is changed
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    cli.main()
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION")
    cli.main()
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == process.GPU_MEMORY
