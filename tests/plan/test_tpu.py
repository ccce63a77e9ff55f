"""The real TPU compiler, with no TPU: costs of tiny programs against hand-counted ones, and `selfevo plan` itself."""

import json
from pathlib import Path

import pytest
import yaml
from plan_helpers import TINY
from tpu_process import found_by, needs_tpu_compiler, run_apart

pytestmark = needs_tpu_compiler
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cases():
    return found_by(HERE / "tpu_cases.py")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("plan") / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    return str(file)


@pytest.fixture(scope="module")
def plans(config):
    done = run_apart("-m", "selfevo_jax", "plan", config, "--json", "--topology", "v5e:2x2")
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_flops_of_a_scan_are_exact_forward_and_backward(cases):
    layers, rows, width = 5, 1024 // 4, 512
    assert cases["sharded_layers"]["flops"] == 3 * layers * 2 * rows * width * width
    assert cases["sharded_layers"]["caveats"] == []


def test_bytes_of_gathered_parameters_and_scattered_gradients_are_exact(cases):
    matrix = 512 * 512 * 2
    sent = cases["sharded_layers"]["sent"]
    assert sent["all-gather over fsdp"] == 2 * 5 * matrix * 3 / 4  # once forward, once backward
    assert sent["reduce-scatter over fsdp"] == 5 * matrix * 3 / 4
    assert cases["sharded_layers"]["gradient_reduction"] == {"reduce-scatter": 5 * matrix * 3 / 4}


def test_hbm_bytes_are_each_shard_read_twice_the_rows_read_and_the_gradient_written(cases):
    shard, rows = 512 * 512 * 2 / 4, 1024 * 512 * 2 / 4
    # all else stays in VMEM; some scalars are left over
    assert cases["sharded_layers"]["hbm_bytes"] == pytest.approx(2 * 5 * shard + rows + 5 * shard, rel=0.001)


def test_a_large_product_reads_two_matrices_and_writes_one(cases):
    matrix = 16384 * 16384 * 2
    assert cases["one_product"]["flops"] == 2 * 16384**3
    assert cases["one_product"]["hbm_bytes"] == 3 * matrix


def test_what_crosses_slices_is_counted_as_the_networks(cases):
    found = cases["two_slices"]
    assert (found["chips"], found["devices"]) == (8, 8)
    whole = 1024 * 128 * 4
    assert found["sent"] == {
        "all-gather over fsdp": whole * 3 / 4,
        "all-reduce over slices": whole / 4,  # each chip its quarter, twice half of it
        "reduce-scatter over fsdp": whole * 3 / 4,
    }
    assert found["dcn_bytes"] == whole / 4


def test_a_program_that_does_not_fit_says_by_how_much(cases):
    found = cases["too_large"]
    matrix = 40000 * 40000 * 4
    assert not found["fits"]
    assert found["needed"] == pytest.approx(4 * matrix, rel=0.01)
    assert found["over"] == pytest.approx(4 * matrix - 15.75 * 2**30, rel=0.02)
    assert "does not fit" in found["why"]


def test_every_figure_of_a_plan_is_marked_as_compiled_and_not_run(plans):
    assert plans["note"] == "compiled, not run"
    for plan in plans["plans"]:
        trained = {name for name in plan["programs"] if name.startswith("train")}
        assert trained in ({"train"}, {"train (meta)", "train (learn)"})
        assert set(plan["programs"]) - trained == {"extend", "decode", "decode (drafts)"}
        for found in plan["programs"].values():
            assert found["note"] == "compiled, not run"
            assert "optimal_seconds" not in json.dumps(found)


def test_the_memory_of_each_program_adds_up(plans):
    for plan in plans["plans"]:
        for found in plan["programs"].values():
            memory = dict(found["memory_per_device"])
            total, held, needed = (memory.pop(name) for name in ("total", "held_beside", "needed"))
            memory.pop("host")
            assert sum(memory.values()) == total
            assert total + held == needed
            assert all(n >= 0 for n in memory.values()), memory
        assert plan["programs"]["train"]["memory_per_device"]["optimizer"] > 0
        assert plan["programs"]["decode"]["memory_per_device"]["cache"] > 0


def test_flops_of_a_chip_scale_with_the_chips_and_are_the_models(plans, cases):
    small, large = plans["plans"][0]["programs"]["train"], cases["sixteen_chips"]
    assert large["flops_per_device"] * 4 == pytest.approx(small["flops_per_device"], rel=0.05)
    assert small["flops_per_device"] * 4 == pytest.approx(small["model_flops"], rel=0.05)


def test_times_are_ranges_of_a_roofline_and_imply_tokens_and_utilisation(plans):
    for plan in plans["plans"]:
        peaks, devices = plan["topology"]["peaks_per_device"], plan["topology"]["devices"]
        for found in plan["programs"].values():
            parts = found["roofline_seconds"]
            low, high = found["seconds"]
            assert parts["compute"] == pytest.approx(found["flops_per_device"] / peaks["flops_per_second"])
            assert low == pytest.approx(max(parts["compute"], parts["memory"], parts["ici"] + parts["dcn"]))
            assert high == pytest.approx(max(parts["compute"], parts["memory"]) + parts["ici"] + parts["dcn"])
            assert found["tokens_per_second"] == pytest.approx([found["tokens"] / high, found["tokens"] / low])
            best = found["model_flops"] / low / peaks["flops_per_second"] / devices
            assert found["model_flop_utilisation"][1] == pytest.approx(best)
        assert plan["round"]["round"]["seconds"][0] > 0
        hours = plan["round"]["round"]["chip_hours"][0]
        assert hours == pytest.approx(plan["round"]["round"]["seconds"][0] * plan["topology"]["chips"] / 3600)


def test_tables_say_what_was_compiled_and_on_what_rates(config):
    only = ("--topology", "v6e:1x1", "--only", "decode")
    done = run_apart("-m", "selfevo_jax", "plan", config, "sampling.speculate=off", *only)
    assert done.returncode == 0, done.stderr[-4000:]
    for text in (
        "v6e:1x1: preset:tiny on 1 chips",
        "compiled, not run",
        "918 TFLOP/s",
        "tokens/s",
        "cache",
        "slots: 16",
    ):
        assert text.lower() in done.stdout.lower(), text


def test_what_cannot_be_is_one_clear_line(config):
    done = run_apart("-m", "selfevo_jax", "plan", config, "--topology", "v9:2x2")
    assert done.returncode == 2
    assert "--topology v9:2x2: expected CHIP:AxB" in done.stderr
    assert "chips: v4, v5e, v5p, v6e, tpu7x" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("shape", "the TPU compiler does not know it"),
        ("mesh", "3 does not divide 4 devices"),
        ("part of the mesh", "takes 2 of 4 devices"),
        ("kind", "--only sample: expected train, extend, decode"),
        ("option", "--option fast=1: expected xla_"),
        ("model", "no such preset"),
        ("rows", "batch_rows 6 do not divide over 4 devices"),
    ],
)
def test_faults_are_told_before_anything_is_compiled(cases, case, message):
    assert message in cases["faults"][case]
