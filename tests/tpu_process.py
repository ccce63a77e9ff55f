"""Scripts that compile for a TPU, with no TPU: each in a process of its own, where the compiler reads its settings."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

needs_tpu_compiler = [
    pytest.mark.tpu_compiler,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed"),
]


def run_apart(*arguments):
    """What Python prints for these arguments: without the tests' own devices and platform, with their import path."""
    settings = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**settings, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def found_by(script, *arguments):
    """The JSON in the last line that the script prints."""
    done = run_apart(script, *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
