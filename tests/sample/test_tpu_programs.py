"""The engine's programs through the real TPU compiler: compiled, not run, so no chip is needed."""

from pathlib import Path

import pytest
from tpu_process import found_by, needs_tpu_compiler

pytestmark = needs_tpu_compiler
SCRIPT = Path(__file__).with_name("tpu_compile.py")


CASES = {"v5e:2x2=1x2x2=128": "TPU v5 lite", "v6e:2x2=1x1x1=64": "TPU v6 lite"}
GROUPED = "v5e:8x8=1x64x1/2=128"


@pytest.fixture(scope="module")
def programs():
    return found_by(SCRIPT, *CASES, GROUPED)


@pytest.mark.parametrize("case", CASES)
def test_programs_call_the_kernels_and_never_copy_the_cache(programs, case):
    found = programs[case]
    assert found["device"] == CASES[case]
    assert found["scanned"]
    assert found["windows"] == [4096]  # whole blocks, and one program: a step reads what a slot holds
    assert found["decode"]["kernels"] == ["paged_attention"]
    assert found["extend"]["kernels"] == ["splash_mha_fwd_no_residuals"]
    for program in (found["decode"], found["extend"], found["fork"]):
        assert program["temporaries"] < found["cache_layer"] / 8
    assert found["decode"]["copied_in_loop"] < found["cache_layer"] / 64  # the loop may hold an eighth of the slots
    assert found["decode"]["gathered_in_loop"] < found["smallest_matrix"]


def test_a_mesh_that_was_trained_on_is_regrouped_so_that_the_compiler_finds_a_way_between_its_chips(programs):
    """For v5e:8x8 it finds none where groups go around a corner."""
    assert programs[GROUPED]["decode"]["kernels"] == ["paged_attention"]
