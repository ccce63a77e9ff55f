"""The training step through the real TPU compiler: compiled, not run, so no chip is needed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.tpu_compiler,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed"),
]
SCRIPT = Path(__file__).with_name("tpu_train.py")
TOKENS, WIDTH, HEADS, LENGTH = 1024, 256, 4, 1024  # of a device


@pytest.mark.parametrize(
    ("topology", "remat", "device"),
    [
        ("v5e:2x2", "full", "TPU v5 lite"),
        ("v6e:2x2", "minimal", "TPU v6 lite"),
        ("v5p:2x2x1", "offload", "TPU v5"),
    ],
)
def test_the_step_calls_splash_and_holds_no_scores(topology, remat, device):
    settings = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), topology, remat],
        env={**settings, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["device"] == device
    assert any("fwd" in name for name in found["kernels"]), found
    assert any("dkv" in name for name in found["kernels"]), found
    assert "collective-permute" not in found["collectives"], found  # what windowed einsums are made of
    assert found["temporaries"] < 3 * TOKENS * HEADS * LENGTH * 4, found  # no scores in memory
    assert found["on_host"] == (remat == "offload")
