"""Slots from memory: the arithmetic against hand computation, the number chosen, and the error of too many."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sample_helpers import CONFIG, random_params

from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import param_count
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.sample import Engine, SamplerMemory, Speculation
from selfevo_jax.sample.memory import SAFETY, device_bytes, host_bytes, steps_in_c
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, make_mesh

# CONFIG: vocabulary 64, width 32, 2 layers, 4 heads, 2 kv heads of 8, feed-forward 64
KV = 2 * 2 * 2 * 100 * 8  # keys and values of 2 layers, 2 heads, 100 positions, 8 wide
SCALES = 2 * 2 * 2 * 100


def memory(shape=(1, 1, 1), cache="float32", params="float32", dtype="float32", length=100):
    dtypes = [np.dtype(jnp.dtype(name)) for name in (dtype, params, cache)]
    return SamplerMemory(CONFIG, length, *dtypes, mesh=make_mesh(*shape))


@pytest.mark.parametrize(("cache", "wanted"), [("float32", 4 * KV), ("bfloat16", 2 * KV), ("int8", KV + 4 * SCALES)])
def test_bytes_of_a_slot_are_those_of_its_keys_values_and_scales(cache, wanted):
    assert memory(cache=cache).slot == wanted
    assert memory((2, 2, 2), cache=cache).slot == wanted // 2  # kv heads over tensor; slots over the other four


def test_bytes_of_parameters_are_those_that_lie_on_a_device():
    count, matrices = param_count(CONFIG), 64 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    outputs = 64 + 2 * (32 + 2 * 16 + 32 + 2 * 64 + 32)
    m = memory()
    assert m.params(np.float32, TRAIN_RULES) == 4 * count
    assert m.params(np.int8, DECODE_RULES) == matrices + 4 * (count - matrices) + 4 * outputs
    spread = memory((2, 2, 2))
    assert spread.params(np.float32, TRAIN_RULES) == pytest.approx(4 * count / 4, rel=0.05)  # norms are split once
    assert spread.params(np.float32, DECODE_RULES) == pytest.approx(4 * count / 2, rel=0.05)


def test_bytes_of_placed_parameters_are_those_planned_with():
    mesh = make_mesh(2, 2, 2)
    engine = Engine(CONFIG, None, slots=4, cache_length=100, mesh=mesh, param_dtype="int8", stream=object)
    placed = engine.place(random_params())
    found = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(placed))
    assert memory((2, 2, 2)).params(np.int8, DECODE_RULES) == found
    cache = engine.new_state().cache
    assert 1 * memory((2, 2, 2)).slot == device_bytes(cache, jax.tree.map(lambda x: x.sharding, cache))


def test_parameters_held_are_two_masters_and_the_placed_ones_where_they_are_others(monkeypatch):
    count = param_count(CONFIG)
    monkeypatch.setattr("selfevo_jax.native.calls.serves", lambda *_: True)
    assert memory().parameters == 8 * count + 4 * count  # placed in panels
    monkeypatch.setattr("selfevo_jax.native.calls.serves", lambda *_: False)
    assert memory().parameters == 8 * count  # placed as they are
    assert memory(params="bfloat16").parameters == 8 * count + 2 * count
    assert memory((2, 2, 2)).parameters > memory((2, 1, 4)).parameters - 1  # replicated over fsdp for decoding


def test_kernels_in_c_are_left_where_a_copy_for_them_takes_too_much_of_the_memory(monkeypatch):
    monkeypatch.setattr("selfevo_jax.native.calls.serves", lambda *_: True)
    held = 3 * 4 * param_count(CONFIG)
    assert steps_in_c(CONFIG, None, "float32", "float32", memory=2 * held)
    assert not steps_in_c(CONFIG, None, "float32", "float32", memory=2 * held - 1)


def test_where_devices_have_a_memory_of_their_own_what_is_sampled_with_is_all_that_is_held(monkeypatch):
    monkeypatch.setattr("selfevo_jax.sample.memory.released_while_sampling", lambda mesh: True)
    count, m = param_count(CONFIG), memory(params="bfloat16")
    assert m.parameters == 2 * count
    assert m.held == 0
    assert m.needed(1) >= 4 * count + 2 * count  # while the checkpoint is cast
    with pytest.raises(ConfigError, match="0 fit. Take more devices: the parameters in float32 alone take"):
        m.plan(None, chains=1, available=1000)


def test_shards_of_the_slots_extend_few_rows_at_a_time_and_copy_fewer_to_drain():
    one, shards = memory((1, 1, 1)), memory((4, 1, 1))
    # 4 rows of 8 tokens to one of 100: one layer of 2 of as many rows, scores of 4 heads, states 64 wide
    scores = 2 * (4 * 100 * 4 + 64 * 4)
    assert shards.temporaries(8) == 4 * 4 * KV // CONFIG.n_layers + 100 * scores
    assert shards.temporaries(8) < one.temporaries(32) / 3


def test_temporaries_are_those_that_the_formula_of_the_docstring_gives():
    m = memory()
    tokens = 4096  # more than the rows of an extend times the cache's length
    # one layer of 2 of 8 rows; scores of 4 heads, states 64 wide
    extend = 2 * 4 * KV // CONFIG.n_layers + 2 * tokens * (4 * 100 * 4 + 64 * 4)
    assert m.temporaries(8) == extend
    many = 4000
    assert m.temporaries(many) == many // 2 * 4 * KV + 6 * many * 64 * 4  # half of the rows are copied
    checked = dataclasses.replace(m, speculation=Speculation(3))
    assert checked.temporaries(many) == m.temporaries(many) + 3 * many * 64 * 4  # logits of the drafts
    assert memory(params="int8").temporaries(8) == extend + m.params(np.float32, DECODE_RULES)  # widened on a CPU


def test_as_many_slots_are_chosen_as_fit_help_and_have_a_chain():
    m = memory()
    ten = int(m.needed(10) / SAFETY) + 1
    assert m.plan(None, chains=1000, available=ten).slots == 10
    assert m.plan(None, chains=1000, available=ten - 1000).slots == 9
    assert str(m.plan(None, chains=7, available=ten)) == (
        f"slots: 7 (of 10 that fit in {ten / 2**20:.1f} MiB; one for each chain)"
    )
    plenty = m.plan(None, chains=1000, available=2**34)
    assert plenty.slots == 32
    assert "more than 32 do not help on a cpu" in str(plenty)
    assert m.plan(200, chains=3, available=2**34).slots == 200  # what is asked for is what is taken


def test_an_int8_cache_makes_room_for_more_slots():
    room = int(memory().needed(10) / SAFETY) + 1
    assert memory(cache="int8").plan(None, 1000, room).fits > 15


def test_slots_on_a_mesh_are_whole_on_each_device():
    m = memory((2, 2, 2))
    plan = m.plan(None, chains=1000, available=int(m.needed(3) / SAFETY) + 1)
    assert (plan.slots, plan.fits) == (12, 12)
    assert m.plan(5, chains=1, available=2**34).slots == 8
    assert m.plan(None, chains=5, available=2**34).slots == 8


def test_too_many_slots_are_refused_with_number_bytes_and_remedies():
    m = memory()
    room = int(m.needed(10) / SAFETY) + 1
    with pytest.raises(ConfigError) as error:
        m.plan(11, chains=1, available=room)
    text = str(error.value)
    assert "\n" not in text
    for part in ("11 slots need", "10 fit", f"{m.slot / 2**20:.1f} MiB", "fewer slots", "cache_length", "int8"):
        assert part in text
    with pytest.raises(ConfigError, match="1 slots need .*; 0 fit. Take more devices: M_0 and the newest checkpoint"):
        m.plan(None, chains=1, available=1000)


def test_parameters_that_leave_no_room_are_made_smaller_before_slots():
    m = memory((1, 4, 2))
    assert m.masters < m.parameters
    with pytest.raises(ConfigError, match=r"Take sampling.param_dtype=int8, or sampling.tensor=4$"):
        m.plan(None, chains=1, available=int(m.parameters / SAFETY))


def test_host_memory_is_what_is_available_and_no_more_than_the_cgroup_allows(tmp_path):
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal:  9000 kB\nMemAvailable:    5000 kB\nHugePages_Total:  0\n")
    assert host_bytes(info, [limit]) == 5000 * 1024
    limit.write_text("max\n")
    assert host_bytes(info, [limit]) == 5000 * 1024
    limit.write_text("3000000\n")
    assert host_bytes(info, [limit]) == 3000000
    assert host_bytes(tmp_path / "absent", []) > 2**27


@pytest.fixture(scope="module")
def tree():
    return {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}, "prompts_per_round": 16}}


def test_a_run_takes_its_slots_and_dtypes_from_the_config(tree):
    sampling = {"cache_length": 128, "param_dtype": "int8", "cache_dtype": "int8", "dtype": "bfloat16"}
    bench = open_workbench(parse_config({**tree, "mesh": {"data": 1}, "sampling": sampling}))
    assert bench.engine.slots == bench.slots.slots == 16  # a round has 16 chains
    dtypes = (bench.engine.dtype.name, bench.engine.param_dtype.name, bench.engine.cache_dtype.name)
    assert dtypes == ("bfloat16", "int8", "int8")
    with pytest.raises(ConfigError, match=r"1000000000 slots need .* fewer slots"):
        open_workbench(parse_config({**tree, "mesh": {"data": 1}, "sampling": {**sampling, "slots": 10**9}}))


@pytest.mark.parametrize("key", ["param_dtype", "cache_dtype"])
def test_an_unknown_dtype_is_one_clear_line(tree, key):
    with pytest.raises(ConfigError, match=rf"sampling.{key}: found 'int4', expected .*int8"):
        parse_config({**tree, "sampling": {key: "int4"}})
    for wrong in ("int4", "int16", "nonsense"):
        with pytest.raises(ConfigError, match=rf"{key} is '{wrong}'; expected float32, bfloat16, int8"):
            Engine(CONFIG, None, slots=1, cache_length=100, stream=object, **{key: wrong})
