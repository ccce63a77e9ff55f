"""The same text whatever the slots, the order and the mesh: for single requests and for whole chains."""

import functools

import numpy as np
import pytest
from sample_helpers import Requests, engine, plain, random_params, requests, self_chains, told

from selfevo_jax.sharding import make_mesh


@functools.cache
def lone(temperature):
    """Every request and chain by itself in an engine of one slot."""
    one = engine(slots=1)
    rows, chains = requests(11, temperature=temperature), self_chains(9, temperature)
    alone = [one.generate(random_params(), [row])[0] for row in rows]
    for chain in chains:
        one.run(random_params(), [chain])
    assert len({c.tokens for c in alone}) > 3
    assert sum(len(chain.result.candidates) == 2 for chain in chains) > 3  # respond, judge, refine, judge
    assert all(c.feedback is not None for chain in chains for c in chain.result.candidates)
    return plain(alone, chains)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("slots", [1, 3, 8, 32])
def test_results_do_not_depend_on_slots_or_order(slots, temperature):
    order = np.random.default_rng(slots).permutation(20)
    assert told(engine(slots), random_params(), temperature, order) == lone(temperature)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 1, 1), (2, 2, 2), (1, 2, 4)])
def test_results_do_not_depend_on_the_mesh(shape, temperature):
    on_mesh = engine(slots=5, mesh=make_mesh(*shape))  # 5 is no multiple of 8, 4 nor 2: rounded up
    ways = shape[0] * shape[1]
    assert on_mesh.slots == -(-5 // ways) * ways
    assert told(on_mesh, random_params(), temperature) == lone(temperature)


def test_results_do_not_depend_on_a_scan_over_the_layers():
    scanned = engine(slots=5, mesh=make_mesh(2, 2, 2), scan_layers=True)
    assert scanned.new_state().cache.stacked
    assert told(scanned, random_params(), 1.0) == lone(1.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_results_do_not_depend_on_steps_that_go_on_while_the_host_reads(temperature):
    assert told(engine(slots=3, overlap_steps=2), random_params(), temperature) == lone(temperature)


def test_a_run_that_is_stopped_while_steps_go_on_loses_no_chain():
    e, done, calls = engine(slots=3, overlap_steps=2), {}, iter(range(4))

    def run(left, safe_point):
        chains = [Requests(i, row) for i, row in enumerate(requests(11, temperature=1.0)) if str(i) in left]
        e.run(
            random_params(), chains, on_done=lambda chain: done.update({chain.id: chain.got[0]}), safe_point=safe_point
        )

    left = {str(i) for i in range(11)}
    with pytest.raises(StopIteration):
        run(left, lambda: next(calls))
    assert 0 < len(done) < 11
    run(left - done.keys(), lambda: None)
    assert plain([done[str(i)] for i in range(11)], [])[0] == lone(1.0)[0]
