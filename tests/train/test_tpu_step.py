"""The training step through the real TPU compiler: compiled, not run, so no chip is needed."""

from pathlib import Path

import pytest
from tpu_process import found_by, needs_tpu_compiler

pytestmark = needs_tpu_compiler
SCRIPT = Path(__file__).with_name("tpu_train.py")
TOKENS, HEADS, LENGTH = 1024, 2, 512  # of a device


CASES = {"v5e:2x2=full": "TPU v5 lite", "v6e:2x2=minimal": "TPU v6 lite", "v5p:2x2x1=offload": "TPU v5"}


@pytest.fixture(scope="module")
def steps():
    return found_by(SCRIPT, *CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_step_calls_splash_and_holds_no_scores(steps, case):
    found = steps[case]
    assert found["device"] == CASES[case]
    assert any("fwd" in name for name in found["kernels"]), found
    assert any("dkv" in name for name in found["kernels"]), found
    assert "collective-permute" not in found["collectives"], found  # what windowed einsums are made of
    assert found["temporaries"] < 3 * TOKENS * HEADS * LENGTH * 4, found  # no scores in memory
    assert found["copies"] == 0, found  # of all layers' masters in the compute dtype
    assert found["on_host"] == case.endswith("offload")
