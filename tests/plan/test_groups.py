"""Replica groups in HLO's notations, and the mesh axes they stand for."""

import pytest

from selfevo_jax.plan.groups import MeshAxes, device_groups, permute_pairs, transfer_between_slices
from selfevo_jax.plan.hlo import Instruction


def collective(attributes):
    return Instruction("c", "all-gather", "f32[8]", (), "", f", channel_id=1, {attributes}, dimensions={{0}}", False)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("{{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("{}", ((0, 1, 2, 3, 4, 5, 6, 7),)),
        ("[2,4]<=[8]", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("[4,2]<=[2,4]T(1,0)", ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("mesh['a'=8] {'a'}", ((0, 1, 2, 3, 4, 5, 6, 7),)),
        ("mesh['a'=2,'b'=4] {'b'}", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("mesh['a'=2,'b'=4] {'a'}", ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("mesh['a'=2,'b'=4] {'a','b':(1)2}", ((0, 2, 4, 6), (1, 3, 5, 7))),
        ("mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", ((0, 2), (1, 3))),
    ],
)
def test_every_notation_gives_the_groups(text, groups):
    found = device_groups(collective(f"replica_groups={text}"), 8)
    assert {frozenset(group) for group in found} == {frozenset(group) for group in groups}


def test_groups_are_named_by_the_mesh_axes_they_run_over():
    mesh = MeshAxes({"data": 2, "fsdp": 2, "tensor": 2})
    assert mesh.name(((0, 1), (2, 3), (4, 5), (6, 7))) == "tensor"
    assert mesh.name(((0, 2), (1, 3), (4, 6), (5, 7))) == "fsdp"
    assert mesh.name(((0, 2, 4, 6), (1, 3, 5, 7))) == "data+fsdp"
    assert mesh.name((tuple(range(8)),)) == "data+fsdp+tensor"
    assert mesh.name(((0, 3), (1, 2), (4, 7), (5, 6))) == "mixed"


def test_a_slice_sees_the_mesh_without_the_axes_that_go_over_slices():
    mesh = MeshAxes({"data": 2, "fsdp": 4, "tensor": 2})
    assert mesh.within_slice(1) == mesh
    assert mesh.within_slice(2).sizes == {"data": 1, "fsdp": 4, "tensor": 2}
    assert mesh.within_slice(4).sizes == {"data": 1, "fsdp": 2, "tensor": 2}


def test_transfers_between_slices_are_sends_of_the_multislice_runtime():
    attributes = (
        ', channel_id=2, is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,3:5}x{0:3}",'
        '_xla_megascale_transfer_type="REDUCE_SCATTER"}'
    )
    send = Instruction("s", "send", "(f32[8], u32[], token[])", ("x", "t"), "", attributes, False)
    assert transfer_between_slices(send) == ("reduce-scatter", 4)
    assert transfer_between_slices(collective("replica_groups={}")) is None


def test_pairs_of_a_permute():
    assert permute_pairs(collective("source_target_pairs={{0,1},{1,0}}")) == ((0, 1), (1, 0))
