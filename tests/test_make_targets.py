"""What the targets of the Makefile run can be read, and is what they say."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from selfevo_jax.config import load_config
from selfevo_jax.tasks import open_task

ROOT = Path(__file__).parents[1]


def run_by(*target: str) -> list[str]:
    """The words behind `selfevo evolve` in what `make` would run."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = ["make", "--dry-run", "--always-make", "VENV=/no/venv", *target]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    (line,) = [line for line in told.splitlines() if " evolve " in line]
    return shlex.split(line.split(" evolve ")[1])


def test_make_smollm2_runs_the_instructions_and_smoke_a_small_run_of_them_beside_it() -> None:
    (file,) = run_by("smollm2")
    assert file == "configs/smollm2_instructions.yaml"
    same, *overrides = run_by("smollm2", "SMOKE=1")
    assert same == file
    whole, small = (load_config(ROOT / file, given) for given in ([], overrides))
    assert whole.run_dir != small.run_dir
    assert small.rounds.number == 1
    assert max(small.meta.steps or 0, small.learn.steps or 0) < min(whole.meta.steps or 999, 100)
    assert small.model == whole.model
    assert max(len(of.rows) for of in open_task(small).evaluation().values()) <= 24


def test_the_path_on_gsm8k_has_a_target_of_its_own() -> None:
    assert run_by("smollm2-gsm8k") == ["configs/smollm2_gsm8k_smoke.yaml"]
