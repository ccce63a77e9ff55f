"""The configs of real models fit the chips that they are for. (Whole plans take minutes each: see the README.)"""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from tpu_configs import LENGTH, ROWS, SMALL
from tpu_process import found_by, needs_tpu_compiler

from selfevo_jax.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
TOPOLOGIES = {
    "vicuna_7b_v5e_16": "v5e:4x4",
    "vicuna_7b_v5e_64": "v5e:8x8",
    "llama_3_1_8b_v6e_16": "v6e:4x4",
    "gemma_2_9b_v6e_16": "v6e:4x4",
    "qwen_3_30b_a3b_v6e_16": "v6e:4x4",
    "llama_3_1_8b_v5p_16": "v5p:2x2x4",
    "qwen_2_5_0_5b_v5e_8": "v5e:2x4",
}


def test_every_config_for_tpus_is_looked_at():
    assert {file.stem for file in CONFIGS.glob("*.yaml") if load_config(file).platform == "tpu"} == set(TOPOLOGIES)


@pytest.fixture(scope="module")
def plans():
    given = [f"{name}={where}" for name, where in {**TOPOLOGIES, "small": "v5e:2x2"}.items()]
    return found_by(Path(__file__).with_name("tpu_configs.py"), *given)


class TestOnTpus:
    pytestmark: ClassVar = [*needs_tpu_compiler, pytest.mark.slow]

    @pytest.mark.parametrize("name", TOPOLOGIES)
    def test_what_lies_on_a_chip_fits_beside_a_fair_number_of_slots(self, plans, name):
        found = plans[name]
        assert found["slots"] >= 32
        assert all(0 < needed < 0.95 * found["hbm"] for needed in found["least"].values()), found

    def test_the_compiled_step_of_a_small_model_fits_and_computes_what_it_must(self, plans):
        found = plans["small"]
        assert found["fits"]
        chips, tokens, layers = 4, ROWS * LENGTH, SMALL["n_layers"]
        width, inner, vocabulary = SMALL["d_model"], SMALL["d_ff"], SMALL["vocab_size"]
        layer, down, head = 4 * width**2 + 3 * width * inner, width * inner, vocabulary * width
        # forward, and twice that backward; layers once more, but for the product that nothing after it asks for
        products = 2 * tokens * (3 * (layers * layer + head) + layers * (layer - down)) / chips
        assert found["flops"] - found["kernel_flops"] == pytest.approx(products, rel=1e-3)
        attention = 4 * layers * width * tokens * (LENGTH + 1) / 2 / chips
        # twice forward, and five products backward for two; splash works on whole blocks of the causal half
        assert 4.5 * attention < found["kernel_flops"] <= 2 * 4.5 * attention


def test_the_config_for_an_h100_fits_by_count():
    command = ["-m", "selfevo_jax", "plan", str(CONFIGS / "smollm2_1_7b_h100.yaml"), "--devices", "1", "--json"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert 30e9 < sum(found["training"].values()) < 75e9
