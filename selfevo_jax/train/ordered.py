"""Sums over CPU devices in the order of the devices, so that no bit depends on how many processes hold them.

Within one process XLA adds up in that order; between processes gloo adds up around a ring, from another device on for
each piece. Texts drawn from weights that differ in the last bit soon differ too. On TPU and GPU sums are left to the
compiler: there the interconnect has one order for one topology.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from selfevo_jax.sharding import ShardingRules

Tree = TypeVar("Tree")


def ordered_axis(mesh: Mesh, rules: ShardingRules) -> str | None:
    """The mesh axis over which to add up in order: the one that rows lie on, of CPU devices, where nothing else is
    divided; else None."""
    divided = [name for name, size in mesh.shape.items() if size > 1]
    if mesh.devices.flat[0].platform != "cpu" or len(divided) != 1:
        return None
    axis, others = divided[0], (name for name in rules.table if name != "batch")
    parameters_too = any(axis in rules.mesh_axes(name) for name in others)
    return axis if axis in rules.mesh_axes("batch") and not parameters_too else None


def sums_in_order(
    local: Callable[[Any, Any], Tree], mesh: Mesh, axis: str, leading: int = 1
) -> Callable[[Any, Any], Tree]:
    """`(params, batch) -> sums` over all devices of `axis`, where `local` gives the sums of one device's rows.

    `params` and the result lie whole on every device; the batch's rows are divided after `leading` axes.
    """
    ways = mesh.shape[axis]

    def add(tree: Tree) -> Tree:
        leaves, structure = jax.tree.flatten(tree)
        floats = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        flat = jnp.concatenate([leaves[i].reshape(-1) for i in floats])
        pieces = jnp.pad(flat, (0, -flat.size % ways)).reshape(ways, -1)
        pieces = jax.lax.all_to_all(pieces, axis, 0, 0, tiled=True)  # one piece of the sum here, from each device
        total = pieces[0]
        for part in pieces[1:]:
            total = total + part
        flat, at = jax.lax.all_gather(total, axis, tiled=True), 0
        for i, leaf in enumerate(leaves):
            if i in floats:
                size = math.prod(leaf.shape)
                leaves[i], at = flat[at : at + size].reshape(leaf.shape), at + size
            else:
                leaves[i] = jax.lax.psum(leaf, axis)  # whole numbers: exact in any order
        return jax.tree.unflatten(structure, leaves)

    whole, rows = PartitionSpec(), PartitionSpec(*([None] * leading), axis)
    return jax.shard_map(
        lambda params, batch: add(local(params, batch)),
        mesh=mesh,
        in_specs=(whole, rows),
        out_specs=whole,
        check_vma=False,
    )
