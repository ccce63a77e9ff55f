"""The configs of real models fit the chips that they are for. (Whole plans take minutes each: see the README.)"""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from tpu_process import found_by, needs_tpu_compiler

from selfevo_jax.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
TOPOLOGIES = {
    "vicuna_7b_v5e_16": "v5e:4x4",
    "vicuna_7b_v5e_64": "v5e:8x8",
    "llama_3_1_8b_v6e_16": "v6e:4x4",
    "llama_3_1_8b_v5p_16": "v5p:2x2x4",
    "qwen_2_5_0_5b_v5e_8": "v5e:2x4",
}
COMPILED = "vicuna_7b_v5e_16"


def test_every_config_for_tpus_is_looked_at():
    assert {file.stem for file in CONFIGS.glob("*.yaml") if load_config(file).platform == "tpu"} == set(TOPOLOGIES)


@pytest.fixture(scope="module")
def plans():
    given = [f"{name}={where}{'=compile' if name == COMPILED else ''}" for name, where in TOPOLOGIES.items()]
    return found_by(Path(__file__).with_name("tpu_configs.py"), *given)


class TestOnTpus:
    pytestmark: ClassVar = [*needs_tpu_compiler, pytest.mark.slow]

    @pytest.mark.parametrize("name", TOPOLOGIES)
    def test_what_lies_on_a_chip_fits_beside_a_fair_number_of_slots(self, plans, name):
        found = plans[name]
        assert found["slots"] >= 32
        assert all(0 < needed < 0.95 * found["hbm"] for needed in found["least"].values()), found

    def test_the_compiled_step_fits_and_computes_what_it_must(self, plans):
        found = plans[COMPILED]
        assert found["fits"]
        tokens, layers, width, inner, length = 8192, 32, 4096, 11_008, 2048
        layer, down, head = 4 * width**2 + 3 * width * inner, width * inner, 32_000 * width
        # forward, and twice that backward; layers once more, but for the product that nothing after it asks for
        products = 2 * tokens * (3 * (layers * layer + head) + layers * (layer - down))
        assert found["flops"] - found["kernel_flops"] == pytest.approx(products, rel=1e-3)
        attention = 4 * layers * width * tokens * (length + 1) / 2
        # twice forward, and five products backward for two; splash works on whole blocks of the causal half
        assert 4.5 * attention < found["kernel_flops"] < 1.5 * 4.5 * attention

    def test_the_compiled_step_holds_no_copies_of_all_layers(self, plans):
        masters, rows = 12 * 6.74e9 / 16, 32 * 4 * 2048 * 4096 * 2  # with moments; what the layers are given
        gradients, head = 2 * 6.48e9 / 16, 32_000 * 4096 * (2 + 4)
        # a bf16 copy of the layers' masters would be another 0.8 GB. (MaxText's defaults need 12.3 GB here.)
        assert plans[COMPILED]["program"] < masters + rows + gradients + head + 1.8e9


def test_the_config_for_an_h100_fits_by_count():
    command = ["-m", "selfevo_jax", "plan", str(CONFIGS / "smollm2_1_7b_h100.yaml"), "--devices", "1", "--json"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert 30e9 < sum(found["training"].values()) < 75e9
