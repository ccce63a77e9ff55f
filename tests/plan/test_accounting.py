"""Costs of compiled programs against hand-counted FLOPs and bytes: programs compiled here, and text for TPU."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from selfevo_jax.plan.accounting import KernelCost, account, ring_bytes
from selfevo_jax.plan.groups import MeshAxes
from selfevo_jax.plan.hlo import parse

ONE = MeshAxes({"x": 1})


def totals(fn, *shapes, mesh=ONE, **options):
    args = [s if isinstance(s, jax.ShapeDtypeStruct) else jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    return account(parse(jax.jit(fn, **options).lower(*args).compile().as_text()), mesh)


# --- FLOPs


def test_a_product_counts_two_flops_a_multiplication():
    assert totals(lambda x, y: x @ y, (64, 96), (96, 32)).flops == 2 * 64 * 96 * 32


def test_a_batched_product_counts_each_batch():
    found = totals(lambda x, y: jnp.einsum("bhqd,bhkd->bhqk", x, y), (3, 4, 16, 8), (3, 4, 24, 8))
    assert found.flops == 2 * 3 * 4 * 16 * 24 * 8


def test_products_inside_fusions_and_calls_count():
    found = totals(lambda x, y: jnp.tanh(x @ y) @ y + 1.0, (32, 32), (32, 32))
    assert found.flops == 2 * 2 * 32**3


def test_loops_count_by_their_trips_nested_ones_too():
    def inner(x, w):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=3)[0]

    def outer(x, ws):
        return jax.lax.scan(lambda c, w: (inner(c, w), None), x, ws)[0]

    found = totals(outer, (16, 32), (7, 32, 32))
    assert found.flops == 7 * 3 * 2 * 16 * 32 * 32
    assert not found.caveats


def test_forward_and_backward_of_a_scan_count_three_times_the_forward():
    def loss(ws, x):
        return jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, ws)[0].sum()

    found = totals(jax.grad(loss), (5, 32, 32), (16, 32))
    assert found.flops == 3 * 5 * 2 * 16 * 32 * 32


def test_a_loop_that_says_how_often_it_runs_at_most_is_counted_so_often():
    def f(x, n):
        with jax.named_scope("at_most_6_trips"):
            return jax.lax.fori_loop(0, n, lambda _, c: jnp.tanh(c @ c), x)

    found = totals(f, (32, 32), jax.ShapeDtypeStruct((), jnp.int32))
    assert found.flops == 6 * 2 * 32**3
    assert "counted 6 times, the most that its data can ask for" in found.caveats.pop()


def test_a_conditional_counts_as_its_costliest_branch_and_says_so():
    def fn(p, x):
        return jax.lax.cond(p, lambda x: x @ x, lambda x: x @ x @ x, x)

    found = totals(fn, jax.ShapeDtypeStruct((), jnp.bool_), (16, 16))
    assert found.flops == 2 * 2 * 16**3
    assert any("conditional" in text for text in found.caveats)


def test_a_loop_of_unknown_length_counts_as_often_as_the_caller_says_and_is_named():
    def fn(n, x):
        def one(carry):
            i, x = carry
            inner = jax.lax.while_loop(lambda c: jnp.sum(c) > n, lambda c: c @ c, x)
            return i + 1, inner

        return jax.lax.while_loop(lambda c: c[0] < n, one, (0, x))[1]

    module = parse(
        jax.jit(fn)
        .lower(jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((8, 8), jnp.float32))
        .compile()
        .as_text()
    )
    assert account(module, ONE).flops == 2 * 8**3
    found = account(module, ONE, open_trips=32)
    assert found.flops == 32 * 2 * 8**3
    assert {"counted 32 times" in text or "counted 1 time" in text for text in found.caveats} == {True}


# --- collectives, on 8 devices


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.asarray(jax.devices()[:8]).reshape(2, 4), ("a", "b"))


def sent(mesh, fn, spec_in, spec_out, shape=(64, 32)):
    local = jax.shard_map(fn, mesh=mesh, in_specs=spec_in, out_specs=spec_out, check_vma=False)
    struct = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec_in))
    return totals(local, struct, mesh=MeshAxes(dict(mesh.shape))).sent_by_axes()


FULL = 64 * 32 * 4


@pytest.mark.parametrize(
    ("fn", "spec_in", "spec_out", "expected"),
    [
        (
            lambda x: jax.lax.all_gather(x, "b", tiled=True),
            PartitionSpec("b"),
            PartitionSpec(),
            {"all-gather over b": FULL * 3 / 4},
        ),
        (
            lambda x: jax.lax.psum_scatter(x, "b", tiled=True),
            PartitionSpec(),
            PartitionSpec("b"),
            {"reduce-scatter over b": FULL * 3 / 4},
        ),
        (
            lambda x: jax.lax.psum(x, ("a", "b")),
            PartitionSpec(),
            PartitionSpec(),
            {"all-reduce over a+b": 2 * FULL * 7 / 8},
        ),
        (
            lambda x: jax.lax.all_to_all(x, "a", 1, 0, tiled=True),
            PartitionSpec("a"),
            PartitionSpec("a"),
            {"all-to-all over a": FULL / 2 / 2},
        ),
        (
            lambda x: jax.lax.ppermute(x, "b", [(i, (i + 1) % 4) for i in range(4)]),
            PartitionSpec("b"),
            PartitionSpec("b"),
            {"collective-permute over b": FULL / 4},
        ),
    ],
)
def test_bytes_sent_are_those_of_a_ring_over_the_named_axes(mesh, fn, spec_in, spec_out, expected):
    assert sent(mesh, fn, spec_in, spec_out) == expected


def test_collectives_in_a_loop_count_each_trip(mesh):
    def fn(x):
        return jax.lax.scan(lambda c, _: (jax.lax.psum(c, "b") * 0.1, None), x, None, length=6)[0]

    assert sent(mesh, fn, PartitionSpec(), PartitionSpec()) == {"all-reduce over b": 6 * 2 * FULL * 3 / 4}


def test_ring_bytes():
    assert ring_bytes("all-gather", 100, 4) == ring_bytes("reduce-scatter", 100, 4) == 75
    assert ring_bytes("all-reduce", 100, 4) == 150
    assert ring_bytes("collective-permute", 100, 2) == 100


# --- text of the TPU compiler

TPU = (Path(__file__).parent / "hlo" / "overlapped.hlo").read_text()


def test_a_collective_that_a_product_overlaps_counts_once_and_a_sum_that_is_sliced_is_a_reduce_scatter():
    found = account(parse(TPU), MeshAxes({"fsdp": 4}))
    whole = 512 * 512 * 2
    assert found.sent_by_axes() == {"all-gather over fsdp": whole * 3 / 4, "reduce-scatter over fsdp": whole * 3 / 4}
    assert found.calls_by_kind() == {"all-gather": 1, "reduce-scatter": 1}
    assert found.flops == 2 * 256 * 512 * 512
    shard, rows = 128 * 512 * 2, 256 * 512 * 2
    gather, product, scatter = shard + whole, rows + whole + rows, whole + shard
    assert found.hbm_bytes == gather + product + scatter
    assert not found.uncosted


GRADIENTS = (Path(__file__).parent / "hlo" / "gradients.hlo").read_text()


def test_gradients_are_said_to_be_scattered_or_to_be_summed_everywhere():
    found = account(parse(GRADIENTS), MeshAxes({"data": 1, "fsdp": 4, "tensor": 1}))
    first, second = 256 * 128 * 2, 512 * 64 * 2
    assert found.gradient_reduction() == {"reduce-scatter": (first + second) * 3 / 4, "all-reduce": 2 * first * 3 / 4}


MOVES = (Path(__file__).parent / "hlo" / "moves.hlo").read_text()


def test_updates_in_place_slices_and_vmem_move_no_more_than_they_touch():
    found = account(parse(MOVES), ONE)
    update = 128 * 2 * 2  # in place: the new position alone, twice
    sliced = 128 * 512 * 2  # read from HBM into VMEM, and copied out
    padded = 256 * 128 * 4  # 100 columns are stored as 128
    assert found.hbm_bytes == update + sliced + sliced + 2 * padded + 3 * padded


def test_a_kernel_without_a_rule_is_named_and_one_with_a_rule_is_counted():
    found = account(parse(MOVES), ONE)
    assert dict(found.uncosted) == {"kernel": 1}
    assert found.flops == 0
    seen = []

    def rule(kernel):
        seen.append((kernel.name, [str(a) for a in kernel.operands]))
        return KernelCost(1000.0, 7.0)

    with_rule = account(parse(MOVES), ONE, rule)
    assert seen == [("kernel", ["f32[256,100]", "bf16[1,128,512]"])]
    assert with_rule.flops == 1000
    assert not with_rule.uncosted
    assert with_rule.hbm_bytes == found.hbm_bytes - 2 * 256 * 128 * 4 + 7
