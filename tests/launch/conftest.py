"""A cloud in a folder: stand-ins for gcloud and xpk on a PATH with nothing else but the tools the scripts may use."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
STANDINS = Path(__file__).parent / "standins"
TOOLS = [
    "awk",
    "bash",
    "cat",
    "cp",
    "date",
    "dirname",
    "env",
    "git",
    "grep",
    "gzip",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sleep",
    "tail",
    "timeout",
]
WORKER_TOOLS = [
    "bash",
    "sh",
    "basename",
    "cat",
    "cp",
    "date",
    "dirname",
    "flock",
    "gzip",
    "mkdir",
    "mv",
    "rm",
    "sed",
    "setsid",
    "sleep",
    "tail",
    "tar",
    "touch",
    "true",
]
HERE = {"--name": "self-1", "--zone": "us-west4-a"}


def link(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, f"the tests of launch/ need {name}"
        (folder / name).symlink_to(found)
    return folder


@dataclass
class Cloud:
    """`tpu`, `xpk`: run a script; `calls`: what it asked of the stand-in; `control`: what the stand-in should do."""

    root: Path
    env: dict[str, str]
    snapshot: Path

    def script(self, name: str, *words: str, text: str = "", env: dict[str, str] | None = None):
        command = [str(LAUNCH / name), *words]
        return subprocess.run(
            command,
            cwd=self.root / "desk",
            env=self.env | (env or {}),
            input=text,
            text=True,
            capture_output=True,
            timeout=200,
            check=False,
        )  # the output is collected to its end: a run in the background must not hold it

    def tpu(self, command: str, *words: str, code: int = 0, **more: object):
        """`tpu_vm.sh COMMAND --name self-1 --zone us-west4-a WORDS`, which should end with `code`."""
        place = [part for pair in HERE.items() for part in pair]
        done = self.script("tpu_vm.sh", command, *place, *words, **more)
        assert done.returncode == code, f"{command}: code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def xpk(self, *words: str, **more: object):
        return self.script("xpk.sh", *words, **more)

    def calls(self, match: str = "") -> list[list[str]]:
        file = self.root / "calls.jsonl"
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [call for call in found if match in " ".join(call)]

    def forget_calls(self) -> None:
        (self.root / "calls.jsonl").unlink(missing_ok=True)

    def control(self, **what: object) -> None:
        file = self.root / "control.json"
        now = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(now | what))

    def queue(self, *states: str) -> None:
        (self.root / "queue.json").write_text(json.dumps(states))

    def home(self, worker: int = 0) -> Path:
        return self.root / f"worker-{worker}"

    def codes(self, *codes: object, workers: tuple[int, ...] = (0, 1)) -> None:
        """How the next runs of the stand-in selfevo end."""
        for worker in workers:
            (self.home(worker) / "codes").write_text("".join(f"{code}\n" for code in codes))

    def starts(self, worker: int = 0) -> list[list[str]]:
        """The arguments of each start of the stand-in selfevo."""
        file = self.home(worker) / "started"
        return [line.split("\0")[:-1] for line in file.read_text().splitlines()] if file.exists() else []

    def wait_for(self, file: str, worker: int = 0, seconds: float = 60) -> str:
        """The text of a file in a worker's home folder, once it is there."""
        path = self.home(worker) / file
        end = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < end, f"{path} did not come"
            time.sleep(0.02)
        return path.read_text().strip()

    def ended(self, worker: int = 0) -> str:
        """The exit code of the run, once it has ended."""
        return self.wait_for("selfevo/self-1.exit", worker)

    def run(self, *words: str, **more: object):
        return self.tpu("run", "config.yaml", "run_dir=gs://b/r", *words, **more)

    def running(self, *codes: object) -> None:
        """A run on both workers that waits for a signal, and whose later starts end with `codes`."""
        self.codes("wait", *codes)
        self.run()
        for worker in (0, 1):
            self.wait_for("listening", worker)

    def installed(self) -> None:
        """Workers and state folder as `create` and `install` leave them; the two truly run once."""
        kept = ("desk/.selfevo-launch", "worker-0", "worker-1", "queue.json")
        if self.snapshot.exists():
            shutil.copytree(self.snapshot, self.root, dirs_exist_ok=True)
            return
        self.tpu("create", "--accelerator", "v5litepod-16", "--spot")
        self.tpu("install", "--source", "0.1.0")
        self.forget_calls()
        for name in kept:
            copy = shutil.copytree if (self.root / name).is_dir() else shutil.copy
            (self.snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            copy(self.root / name, self.snapshot / name)


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory):
    return tmp_path_factory.mktemp("installed") / "cloud"


@pytest.fixture
def cloud(tmp_path, snapshot):
    bin_folder = link(tmp_path / "bin", TOOLS)
    for name in ("gcloud", "xpk"):
        command = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S -E {shlex.quote(str(STANDINS / name))} "$@"\n'
        (bin_folder / name).write_text(command)
        (bin_folder / name).chmod(0o755)
    worker_bin = link(tmp_path / "tools", WORKER_TOOLS)
    (worker_bin / "hostname").symlink_to(STANDINS / "worker" / "hostname")
    (worker_bin / "python3.12").symlink_to(STANDINS / "worker" / "python")
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "config.yaml").write_text("run_dir: runs/here\n")
    env = {
        "HOME": str(desk),
        "PATH": str(bin_folder),
        "FAKE_CLOUD": str(tmp_path),
        "FAKE_WORKER_PATH": str(worker_bin),
        "SELFEVO_LAUNCH_POLL_SECONDS": "0.05",
        "SELFEVO_LAUNCH_BACKOFF_SECONDS": "0.01",
    }
    yield Cloud(tmp_path, env, snapshot)
    for file in tmp_path.glob("worker-*/selfevo/*.pid"):
        pid = int(file.read_text())
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and str(tmp_path).encode() in command.read_bytes():
            os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def plan():
    """Reads what a dry run printed: its commands as a shell reads them. Its notes are comments."""
    return lambda text: [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]
