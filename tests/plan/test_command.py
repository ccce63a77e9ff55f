"""What the command says before jax starts."""

import importlib.util
import json
import subprocess
import sys

import pytest
import yaml
from plan_helpers import TINY
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.errors import SelfevoError
from selfevo_jax.model import PRESETS, param_count
from selfevo_jax.plan import chips


def test_without_a_topology_bytes_are_counted(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    arguments = ["plan", str(file), "--devices", "4", "--json", "learn.first_moment_dtype=bfloat16"]
    done = subprocess.run(
        [sys.executable, "-m", "selfevo_jax", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["note"] == "counted, not compiled"
    assert found["mesh"] == {"data": 1, "fsdp": 4, "tensor": 1}
    masters = found["training"]["parameters"]
    assert masters == param_count(PRESETS["tiny"]) * 4 / 4
    assert masters / 2 < found["training"]["gradients"] < masters  # the layers' matrices in bfloat16
    assert found["training"]["held beside"] == 2 * masters  # `restart` keeps M_0 and the newest checkpoint
    assert found["training"]["optimizer"] == pytest.approx(1.5 * masters, rel=0.001)
    slot = 2 * 2 * 2 * 16 * 256 * 2  # keys and values, layers, heads, head_dim, positions, bytes
    assert found["decoding"]["cache of 4 slots"] == 4 * slot


def test_help_shows_examples():
    shown = CliRunner().invoke(app, ["plan", "--help"], env={"COLUMNS": "200"}).output
    assert "selfevo plan mine.yaml --topology v5e:4x4 --topology v5p:2x2x4" in shown
    assert "--search" in shown


def test_without_the_compiler_the_remedy_is_named(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else real(name))
    with pytest.raises(SelfevoError, match="pip install libtpu"):
        chips.prepare_compiler()


@pytest.mark.parametrize("name", ["v9:2x2", "v5e", "v5e:2", "v5e:2x2x2x2", "v5e:2x2*x", "h100:2x2"])
def test_a_name_that_is_no_topology_lists_the_chips(name):
    with pytest.raises(SelfevoError, match="chips: v4, v5e, v5p, v6e, tpu7x"):
        chips.find_topology(name)
