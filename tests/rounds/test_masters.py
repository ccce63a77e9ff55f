"""fp32 parameters between their uses: out of the way of sampling, cast once a checkpoint, and the same when they come
back."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from selfevo_jax.rounds import masters
from selfevo_jax.rounds.checkpoints import Checkpoints
from selfevo_jax.rounds.masters import Masters
from selfevo_jax.run.names import BASE
from selfevo_jax.sharding import make_mesh

MESH = make_mesh(1, 4, 2)
VALUES = np.arange(64, dtype=np.float32).reshape(8, 8)


@pytest.fixture(params=["in the hosts' memory", "read again"])
def reading(request, monkeypatch):
    """Reads a tree, and counts how often; the devices seem to have a memory of their own."""
    monkeypatch.setattr(masters, "released_while_sampling", lambda mesh: True)
    if request.param == "read again":
        monkeypatch.setattr(masters, "host_bytes", lambda: 100)
    reads = []

    def read():
        reads.append(1)
        return {"matrix": jax.device_put(VALUES, NamedSharding(MESH, PartitionSpec("fsdp", "tensor")))}

    return SimpleNamespace(read=read, reads=reads, again=request.param == "read again")


def test_what_has_rested_comes_back_as_it_was(reading):
    held = Masters(MESH)
    before = held.get("meta", reading.read)
    held.rest(but=before)
    assert held.get("meta", reading.read) is before
    held.rest()
    after = held.get("meta", reading.read)["matrix"]
    assert after is not before["matrix"]
    assert after.sharding == before["matrix"].sharding
    np.testing.assert_array_equal(after, VALUES)
    kinds = {memory.kind for memory in jax.devices()[0].addressable_memories()}
    assert len(reading.reads) == (2 if reading.again or "pinned_host" not in kinds else 1)
    held.forget("meta")
    held.get("meta", reading.read)
    assert len(reading.reads) in (2, 3)


def test_a_checkpoint_is_cast_for_sampling_once_and_its_masters_rest(reading):
    placed = []

    def place(params):
        placed.append(params)
        return jax.tree.map(lambda x: x.astype("bfloat16"), params)

    bench = SimpleNamespace(mesh=MESH, engine=SimpleNamespace(place=place), base_params=reading.read)
    checkpoints = Checkpoints(bench, None, None, None)
    first = checkpoints.decoding(BASE)
    assert checkpoints.decoding(BASE) is first
    assert len(placed) == 1
    assert checkpoints.base() is not placed[0]
    assert first["matrix"].dtype == "bfloat16"
    np.testing.assert_array_equal(checkpoints.base()["matrix"], VALUES)


def test_on_a_cpu_whose_memory_is_the_hosts_nothing_is_moved():
    held, tree = Masters(MESH), object()
    held.get("meta", lambda: tree)
    held.rest()
    assert held.get("meta", lambda: None) is tree
