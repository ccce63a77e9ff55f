"""Sums over CPU devices in one order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train.ordered import ordered_axis, sums_in_order


@pytest.mark.parametrize(
    ("shape", "axis"), [((8, 1, 1), "data"), ((1, 8, 1), None), ((2, 2, 2), None), ((4, 1, 2), None)]
)
def test_only_where_whole_parameters_lie_on_devices_that_share_the_rows(shape, axis) -> None:
    assert ordered_axis(make_mesh(*shape), TRAIN_RULES) == axis


def test_one_device_has_nothing_to_add_up() -> None:
    assert ordered_axis(make_mesh(1, 1, 1, jax.devices()[:1]), TRAIN_RULES) is None


def test_parts_add_up_from_the_first_device_to_the_last_to_the_last_bit() -> None:
    mesh = make_mesh(8, 1, 1)
    rows = np.random.default_rng(0).normal(size=(1, 8, 13)).astype(np.float32) * 10.0 ** np.arange(8)[:, None]
    rows = rows.astype(np.float32)

    def local(scale, part):
        total = scale * part.sum((0, 1))
        return {
            "vector": total,
            "scalar": total[0],
            "matrix": jnp.outer(total, total[:2]),
            "count": jnp.int32(part.size),
        }

    batch = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(None, "data")))
    found = jax.jit(sums_in_order(local, mesh, "data"))(jnp.float32(1), batch)
    parts = [jax.tree.map(np.asarray, local(np.float32(1), rows[:, i : i + 1])) for i in range(8)]
    expected = parts[0]
    for part in parts[1:]:
        expected = jax.tree.map(np.add, expected, part)
    for name, value in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), value, err_msg=name)
