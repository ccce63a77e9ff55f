"""What the compiled programs of sampling contain on a mesh, and that none is compiled or laid out anew later."""

import math
import re

import jax
import numpy as np
import pytest
from sample_helpers import BOS, SHALLOW, VOCAB, Requests, engine, random_params, requests

from selfevo_jax.model import ModelConfig, param_shardings
from selfevo_jax.sample import DrawKey, Request, SamplingParams
from selfevo_jax.sample.decode import empty_rows
from selfevo_jax.sharding import TRAIN_RULES, make_mesh, reshard

WIDE = ModelConfig(88, 40, 1, 4, 4, 14, 104, max_position=64)
"""No row of the sizes below has as many elements as a parameter or a shard of one."""
SLOTS = 256  # many more than WIDE is wide: with few, the compiler rather gathers the rows than a sharded parameter
MESHES = [(2, 2, 2), (1, 2, 4)]
MOVES = re.compile(r"= (?P<result>.*?) (?P<op>all-gather|all-to-all|collective-permute)(-start)?\((?P<operands>.*?)\)")
COMPILED = "/jax/core/compile/backend_compile_duration"


def sizes_of(params):
    """Elements of each parameter and of a device's shard of it."""
    leaves = jax.tree.leaves(params)
    return {n for x in leaves for n in (x.size, math.prod(x.sharding.shard_shape(x.shape)))}


def moved_parameters(text, sizes):
    """The collectives of an HLO text that move as many elements as a parameter or a shard has."""
    shapes = dict(re.findall(r"^\s*(?:ROOT )?(%[\w.-]+) = (\([^)]*\)|\S+)", text, re.MULTILINE))
    found = []
    for line in text.splitlines():
        if match := MOVES.search(line):
            operands = [shapes.get(name, "") for name in re.findall(r"%[\w.-]+", match["operands"])]
            dims = re.findall(r"\w+\[([\d,]*)\]", " ".join([match["result"], *operands]))
            if sizes & {math.prod(map(int, filter(None, d.split(",")))) for d in dims}:
                found.append(line.strip()[:300])
    return found


def compiled(e, name, args, **static):
    """A program for its text and its layout: the machine code, most of the time to compile, is never run."""
    return e.programs.lower(name, args, **static).compile(compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("shape", MESHES)
def test_a_decode_step_moves_no_parameter(shape):
    mesh = make_mesh(*shape)
    e = engine(SLOTS, 48, WIDE, mesh=mesh)
    trained = jax.device_put(jax.device_get(random_params(config=WIDE)), param_shardings(WIDE, mesh, TRAIN_RULES))
    placed, state = e.place(trained), e.new_state()
    sizes = sizes_of(placed) | sizes_of(trained)

    def text(params):
        rows, n = empty_rows(SLOTS, 4), np.int32(0)
        return compiled(e, "decode_many", (params, state, rows, n, n), window=48, capacity=8).as_text()

    program = text(placed)
    assert MOVES.search(program)  # drawn tokens are gathered, so the expression does find what it looks for
    moved = moved_parameters(program, sizes)
    assert not moved, "\n".join(moved)
    # parameters as training lays them out are gathered in each step: what would be found
    assert any("all-gather" in line for line in moved_parameters(text(trained), sizes))


def aliased_inputs(compiled):
    """Input numbers whose buffers the outputs take over."""
    header = compiled.as_text().split("\n", 1)[0]
    alias = re.search(r"input_output_alias=\{(.*?)\}, entry", header)
    return {int(n) for n in re.findall(r"\((\d+), \{\}, \w+-alias\)", alias[1] if alias else "")}


@pytest.mark.parametrize("shape", MESHES)
def test_the_cache_stays_as_it_is_laid_out_and_in_its_place(shape):
    e = engine(8, 64, mesh=make_mesh(*shape))
    params, state = e.place(random_params()), e.new_state()
    layout = [x.sharding for x in jax.tree.leaves(state)]
    assert not any(x.sharding.is_fully_replicated for x in jax.tree.leaves(state.cache))
    rows, zeros = empty_rows(8, 4), np.zeros(8, np.int32)
    extend = (params, state, None, rows, zeros[:, None], zeros, zeros)
    decode = (params, state, rows, zeros[0], zeros[0])
    programs = {
        "extend": compiled(e, "extend", extend, window=64, at_once=8),
        "decode": compiled(e, "decode_many", decode, window=64, capacity=8),
        "fork": compiled(e, "fork", (state, zeros, zeros)),
    }
    first = len(jax.tree.leaves(params))
    for name, program in programs.items():
        taken = program.input_shardings[0][0 if name == "fork" else 1]
        given = program.output_shardings if name == "fork" else program.output_shardings[0]
        for x, wanted, before, after in zip(
            jax.tree.leaves(state), layout, jax.tree.leaves(taken), jax.tree.leaves(given), strict=True
        ):
            assert wanted.is_equivalent_to(before, x.ndim), name
            assert wanted.is_equivalent_to(after, x.ndim), name
        start = 0 if name == "fork" else first
        assert aliased_inputs(program) == set(range(start, start + len(layout))), name


@pytest.fixture
def compilations():
    """Durations of what the backend compiles, whoever asked for it."""
    seen = []

    def listen(event, seconds, **_):
        if event == COMPILED:
            seen.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("shape", [None, (2, 2, 2)])
def test_after_a_first_run_nothing_at_all_is_compiled(shape, compilations):
    mesh = None if shape is None else make_mesh(*shape)
    e = engine(8, 104, SHALLOW, extend_rows=(2,), mesh=mesh)  # a cache that no other test has compiled for
    head = (BOS, *np.random.default_rng(0).integers(4, VOCAB, 40).tolist())
    shared = [Request((*head, 5 + i), SamplingParams(max_new_tokens=5), DrawKey(0, "r", str(i))) for i in range(9)]
    rows = [*requests(20), *requests(6, seed=1, temperature=0.0, stop_strings=("ab",)), *shared]

    def round(seed):
        params = random_params(seed, config=SHALLOW)
        if mesh is not None:  # each round's parameters come from training
            params = reshard(params, param_shardings(e.config, mesh, TRAIN_RULES))
        before = len(compilations)
        stats = e.run(params, [Requests(i, row) for i, row in enumerate(rows)])
        assert stats.chains == len(rows)
        return stats.compiles, len(compilations) - before

    counted, seen = round(0)
    assert seen >= counted > 0
    assert round(1) == (0, 0)
    assert round(2) == (0, 0)
