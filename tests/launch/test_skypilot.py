"""skypilot.yaml: what it says holds for the scripts and the package, and its commands run."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture
def task():
    return yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())


@pytest.fixture
def host(cloud):
    """Runs a part of the task as a host of the slice would, in a copy of the tree."""
    (cloud.home() / "work").mkdir(parents=True)
    (cloud.home() / "work" / "launch").symlink_to(LAUNCH)

    def execute(script, **envs):
        env = {
            "HOME": str(cloud.home()),
            "PATH": cloud.env["FAKE_WORKER_PATH"],
            "FAKE_HOST": "host",
            "FAKE_TOOLS": str(Path(__file__).parent / "standins" / "worker"),
        }
        command = [str(cloud.root / "tools" / "bash"), "-c", script]
        work = cloud.home() / "work"
        return subprocess.run(command, cwd=work, env=env | envs, text=True, capture_output=True, check=False)

    return execute


def test_the_slice_is_spot_and_recovers_when_the_run_says_so(task, cloud):
    resources = task["resources"]
    assert resources["use_spot"] is True
    assert resources["job_recovery"]["recover_on_exit_codes"] == [75]
    kind = resources["accelerators"].removeprefix("tpu-")
    planned = cloud.tpu("create", "--dry-run", "--accelerator", kind).stdout
    assert f"--runtime-version={resources['accelerator_args']['runtime_version']} " in planned


def test_config_and_run_dir_must_be_given(task):
    assert task["envs"]["CONFIG"] is None
    assert task["envs"]["RUN_DIR"] is None


def test_setup_installs_and_run_starts_the_run(task, cloud, host):
    done = host(task["setup"])
    assert done.returncode == 0, done.stderr
    assert f"install {cloud.home()}/work[tpu,gcs]" in (cloud.home() / "pip.log").read_text()
    envs = {"CONFIG": "configs/a b.yaml", "RUN_DIR": "gs://b/r", "OVERRIDES": "rounds.number=5  seed=2"}
    assert host(task["run"], **envs).returncode == 0
    assert host(task["run"], **(envs | {"OVERRIDES": ""})).returncode == 0
    first = ["evolve", "configs/a b.yaml", "run_dir=gs://b/r"]
    assert cloud.starts() == [[*first, "rounds.number=5", "seed=2"], first]


def test_the_code_of_the_run_reaches_skypilot(task, cloud, host):
    host(task["setup"])
    cloud.codes(75, workers=(0,))
    assert host(task["run"], CONFIG="c.yaml", RUN_DIR="gs://b/r", OVERRIDES="").returncode == 75


def test_a_local_run_dir_is_refused(task, host):
    done = host(task["run"], CONFIG="c.yaml", RUN_DIR="runs/x", OVERRIDES="")
    assert done.returncode == 2
    assert "gs://BUCKET/RUN" in done.stderr


def test_its_commands_stand_in_the_readme():
    head = (LAUNCH / "skypilot.yaml").read_text().split("\nname:")[0]
    readme = (LAUNCH / "README.md").read_text()
    (launch,) = [line.lstrip("# ") for line in head.splitlines() if "sky jobs launch" in line]
    assert launch in readme
    assert os.path.exists(LAUNCH.parent / launch.split("CONFIG=")[1].split()[0])
