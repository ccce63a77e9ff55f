import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from selfevo_jax.errors import ConfigError
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, ShardingRules, make_mesh, sizes_of
from selfevo_jax.sharding.mesh import _divided, by_slice, regroup
from selfevo_jax.sharding.torus import arrange, ring, ring_hops


def test_one_size_is_inferred() -> None:
    mesh = make_mesh(-1, 2, 2)
    assert dict(mesh.shape) == {"slice": 1, "data": 2, "fsdp": 2, "tensor": 2}
    assert sizes_of(mesh) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert mesh.devices.flatten().tolist() == jax.devices()


def test_a_size_that_does_not_divide_names_the_nearest_valid_ones() -> None:
    with pytest.raises(ConfigError, match="3 does not divide 8 devices.*2 or 4"):
        make_mesh(-1, 3, 1)


def test_too_large_a_mesh_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs 16 devices, found 8"):
        make_mesh(4, 4, 1)


def test_two_axes_of_one_array_on_one_mesh_axis_are_refused() -> None:
    rules = ShardingRules({"a": "tensor", "b": "tensor"})
    with pytest.raises(ConfigError, match="used by two"):
        rules.spec(("a", "b"), (8, 8), make_mesh(2, 2, 2))


def test_an_axis_that_does_not_divide_is_an_error_unless_the_rules_replicate_it() -> None:
    mesh = make_mesh(2, 2, 2)
    with pytest.raises(ConfigError, match="size 5 does not divide over 4"):
        ShardingRules({"batch": ("data", "fsdp")}).spec(("batch",), (5,), mesh)
    spec = ShardingRules({"kv_heads": "tensor"}, frozenset({"kv_heads"})).spec(("kv_heads",), (3,), mesh)
    assert spec == PartitionSpec(None)


def test_the_same_devices_in_their_order_share_copies_of_the_parameters() -> None:
    mesh = make_mesh(1, 8, 1)
    decoding = regroup(mesh, 4)
    assert sizes_of(decoding) == {"data": 2, "fsdp": 1, "tensor": 4}
    assert decoding.devices.flatten().tolist() == mesh.devices.flatten().tolist()
    with pytest.raises(ConfigError, match="3 does not divide 8 devices.*2 or 4"):
        regroup(mesh, 3)


def chips(*sides: int, slice: int = 0, kind: str = "TPU v5 lite") -> list[SimpleNamespace]:
    """TPUs that are not there, x first."""
    sides = (*sides, *[1] * (3 - len(sides)))
    places = [place[::-1] for place in itertools.product(*map(range, sides[::-1]))]
    return [
        SimpleNamespace(platform="tpu", device_kind=kind, coords=place, core_on_chip=0, slice_index=slice)
        for place in places
    ]


def boxed(devices: list[SimpleNamespace], *sides: int) -> np.ndarray:
    """By x, y, z and core."""
    sides = (*sides, *[1] * (3 - len(sides)))
    return np.asarray(devices).reshape(sides[::-1]).transpose()[..., None]


@pytest.mark.parametrize(
    ("sides", "kind", "shape", "hops"),
    [
        ((8, 8), "TPU v5 lite", (1, 16, 4), (0, 1.375, 1.5)),  # a ring of 4 in a line of 8 has to come back: 1.5
        ((8, 8), "TPU v5 lite", (1, 64, 1), (0, 1, 0)),
        ((4, 4), "TPU v6 lite", (1, 16, 1), (0, 1, 0)),
        ((16, 16), "TPU v5 lite", (1, 256, 1), (0, 1, 0)),
        ((4, 4, 4), "TPU v5p", (1, 16, 4), (0, 1, 1)),
    ],
)
def test_neighbours_in_an_axis_are_neighbours_on_the_torus(sides, kind, shape, hops) -> None:
    devices = chips(*sides, kind=kind)
    mesh = arrange(devices, shape)
    assert sorted(map(id, mesh.flat)) == sorted(map(id, devices))
    assert ring_hops(mesh, boxed(devices, *sides)) == hops
    in_order = ring_hops(np.asarray(devices).reshape(shape), boxed(devices, *sides))
    assert sum(in_order) > sum(hops)


@pytest.mark.parametrize(
    ("sides", "shape", "groups"), [((8, 8), (1, 64, 1), 4), ((8, 8), (2, 32, 1), 8), ((4, 8), (1, 8, 4), 16)]
)
def test_groups_of_chips_that_are_regrouped_lie_all_alike(sides, shape, groups, monkeypatch) -> None:
    monkeypatch.setattr("selfevo_jax.sharding.mesh._mesh", np.asarray)
    (mesh,) = make_mesh(*shape, devices=chips(*sides), groups=groups)
    assert mesh.shape == shape
    coords = np.asarray([device.coords for device in mesh.flat]).reshape(-1, groups, 3)
    from_the_first = coords - coords[:, :1]
    assert (from_the_first == from_the_first[0]).all()


def test_groups_that_do_not_come_out_leave_the_mesh_as_it_is() -> None:
    assert _divided((2, 6, 4), 8) == (2, 1, 3, 2, 1, 4)
    assert _divided((1, 8, 6), 4) == (1, 8, 6)
    assert _divided((1, 8, 1), 1) == (1, 1, 8, 1, 1, 1)  # one axis of 8 as before


def test_devices_that_fill_no_box_and_those_that_are_no_tpus_stay_in_their_order() -> None:
    some = chips(4, 4)[:6]
    assert arrange(some, (1, 6, 1)).flatten().tolist() == some
    assert arrange(jax.devices(), (2, 2, 2)).flatten().tolist() == jax.devices()


@pytest.mark.parametrize("sizes", [(2, 8), (4, 4), (3, 4), (6, 1, 3), (2, 4, 2), (5,), (3, 3)])
def test_a_ring_goes_through_every_cell_once_and_from_neighbour_to_neighbour(sizes) -> None:
    order = ring(sizes)
    places = np.stack(np.unravel_index(order, sizes), axis=-1)
    apart = np.abs(places - np.roll(places, -1, axis=0)).sum(-1)
    assert sorted(order) == list(range(int(np.prod(sizes))))
    assert set(apart[:-1].tolist()) == {1}
    if sum(size > 1 for size in sizes) == 2 and len(order) % 2 == 0:
        assert apart[-1] == 1


def test_slices_are_the_outermost_axis_and_divide_rows_but_no_parameters() -> None:
    first, second = chips(2, 2, slice=0), chips(2, 2, slice=1)
    assert by_slice([*second, *first]) == [first, second]
    for rules in (TRAIN_RULES, DECODE_RULES):
        assert rules.mesh_axes("batch")[0] == "slice"
        assert all("slice" not in rules.mesh_axes(name) for name in rules.table if name != "batch")
