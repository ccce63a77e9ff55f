"""The memory split, refusals of the compiler, and what to change."""

from types import SimpleNamespace

import jax
import pytest
from plan_helpers import RATES, program, stats, tiny_config

from selfevo_jax.plan import programs
from selfevo_jax.plan.compiled import compile_program, memory_of, read_refusal
from selfevo_jax.plan.remedies import remedies
from selfevo_jax.sharding import make_mesh


def test_the_parts_of_memory_add_up_to_arguments_outputs_and_temporaries():
    found = memory_of(
        program(parameters=100, optimizer=200, gradients=90, held=40),
        stats(argument=350, output=310, alias=300, temp=500, host_temp=7),
    )
    assert found.total == 350 + 310 + 500 - 300
    assert found.parts["batch"] == 50
    assert found.parts["gradients"] == 90
    assert found.parts["temporaries"] == 410
    assert found.parts["outputs"] == 10
    assert (found.needed, found.host) == (found.total + 40, 7)


def test_a_program_that_cannot_be_read_back_has_its_memory_alone():
    def unreadable():
        raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure")

    made = SimpleNamespace(as_text=unreadable, memory_analysis=lambda: stats(argument=30, temp=60))
    lowered = SimpleNamespace(compile=lambda compiler_options: made)
    found = compile_program(program(lower=lambda: lowered), RATES)
    assert (found.fits, found.memory.total, found.totals, found.time) == (True, 90, None, None)


def test_gradients_are_no_more_than_the_temporaries():
    found = memory_of(program(gradients=90), stats(argument=30, temp=60))
    assert (found.parts["gradients"], found.parts["temporaries"], found.total) == (60, 0, 90)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (23.88G) exceeds available HBM (15.75G). HLO module: jit_step.",
            23.88,
            15.75,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 33.52G "
            "of 31.24G hbm. Exceeded hbm capacity by 2.28G.",
            33.52,
            31.24,
        ),
    ],
)
def test_a_refusal_says_how_much_is_needed_and_how_much_that_is_too_much(message, needed, available):
    found = read_refusal(message, RATES)
    assert found.needed == int(needed * 2**30)
    assert found.over == int(needed * 2**30) - int(available * 2**30)


def test_other_errors_are_no_refusals_and_unknown_wordings_keep_theirs():
    assert read_refusal("INVALID_ARGUMENT: no such option", RATES) is None
    found = read_refusal("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem.\nmore", RATES)
    assert found.needed is None
    assert found.over is None
    assert "vmem" in found.why


def test_what_a_run_never_trains_is_neither_compiled_nor_in_a_remedy(monkeypatch):
    monkeypatch.setattr(programs, "train_program", lambda name, *_: name)

    def made(**changes):
        config = tiny_config(**changes)
        return programs.train_programs(config, None, None), remedies(program(), config)[0].split(" (")[0]

    none, wide = {"steps": 0}, {"steps": 50, "batch_rows": 64}
    assert made() == (["train"], "meta.remat=full learn.remat=full")
    assert made(learn=wide)[0] == ["train (meta)", "train (learn)"]
    assert made(meta=none, learn=wide) == (["train"], "learn.compute_dtype=bfloat16")
    assert made(rounds={"number": 0}) == (["train"], "meta.remat=full")
    assert programs.train_programs(tiny_config(meta=none, rounds={"number": 0}), None, None) == []


def test_remedies_are_overrides_of_the_section_that_does_not_fit():
    config = tiny_config(learn={"batch_rows": 32, "length": 64})
    mesh = make_mesh(2, 4, 1, devices=jax.devices()[:8])
    found = remedies(program("train (learn)", mesh=mesh), config)
    assert found[0] == "learn.compute_dtype=bfloat16 (activations take half)"
    assert any(text.startswith("learn.accumulate=2 ") for text in found)
    assert any(text.startswith("mesh.data=1 mesh.fsdp=8") for text in found)
    shared = remedies(program("train", mesh=mesh), config)
    assert any(text.startswith("meta.accumulate=2 learn.accumulate=2 ") for text in shared)
    sampling = remedies(program("decode", "decode", mesh=mesh), config)
    assert sampling[0].startswith("sampling.cache_dtype=int8")
    assert any("sampling.slots" in text for text in sampling)
    assert any(text.startswith("sampling.tensor=2 ") for text in sampling)
    single = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    assert not any("tensor" in text for text in remedies(program("decode", "decode", mesh=single), config))
