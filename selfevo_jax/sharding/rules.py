"""From logical axes to mesh axes: one small table for training, one for decoding."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from selfevo_jax.errors import ConfigError
from selfevo_jax.sharding.mesh import nearest_divisors, sizes_of

MeshAxes = str | tuple[str, ...] | None
LogicalAxes = tuple[str | None, ...]


@dataclass(frozen=True)
class ShardingRules:
    """Logical axis -> mesh axes. An axis that is not named is replicated."""

    table: Mapping[str, MeshAxes] = field(default_factory=dict)
    replicate_uneven: frozenset[str] = frozenset()
    """Logical axes that are replicated where the mesh does not divide them; others are an error."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", MappingProxyType(dict(self.table)))

    def mesh_axes(self, name: str | None) -> tuple[str, ...]:
        axes = self.table.get(name) if name is not None else None
        return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)

    def ways(self, name: str | None, mesh: Mesh) -> int:
        """How many parts the mesh divides a logical axis into."""
        return math.prod(mesh.shape[axis] for axis in self.mesh_axes(name))

    def spec(self, axes: LogicalAxes, shape: tuple[int, ...] | None, mesh: Mesh) -> PartitionSpec:
        """PartitionSpec of one array. Raises ConfigError on a mesh axis used twice or a size that does not divide."""
        used: set[str] = set()
        parts: list[MeshAxes] = []
        for position, name in enumerate(axes):
            mesh_axes, count = self.mesh_axes(name), self.ways(name, mesh)
            if shape is not None and shape[position] % count:
                if name not in self.replicate_uneven:
                    near = " or ".join(map(str, nearest_divisors(count, shape[position])))
                    raise ConfigError(
                        f"axis '{name}' of size {shape[position]} does not divide over {count} devices "
                        f"(mesh {sizes_of(mesh)}, axes {mesh_axes}); nearest valid counts: {near}"
                    )
                mesh_axes = ()
            clash = used.intersection(mesh_axes)
            if clash:
                raise ConfigError(f"logical axes {axes}: mesh axis {sorted(clash)} is used by two of them")
            used.update(mesh_axes)
            parts.append(mesh_axes[0] if len(mesh_axes) == 1 else mesh_axes or None)
        return PartitionSpec(*parts)


# `vocab` and the widths of small models seldom divide; replicating them is right, and cheap at that size.
_UNEVEN = frozenset({"vocab", "kv_heads", "heads", "embed", "mlp", "expert"})

TRAIN_RULES = ShardingRules(
    {
        "batch": ("slice", "data", "fsdp"),
        "vocab": "tensor",
        "embed": "fsdp",
        "mlp": "tensor",
        "heads": "tensor",
        "kv_heads": "tensor",
        "expert": "tensor",
    },
    _UNEVEN,
)
"""Training: parameters over fsdp and tensor, rows over slices, data and fsdp."""

DECODE_RULES = ShardingRules(
    {
        "batch": ("slice", "data", "fsdp"),
        "vocab": "tensor",
        "mlp": "tensor",
        "heads": "tensor",
        "kv_heads": "tensor",
        "expert": "tensor",
    },
    _UNEVEN,
)
"""Decoding: parameters over tensor alone (no gather inside a step), slots over slices, data and fsdp."""


def _is_axes(node: Any) -> bool:
    return isinstance(node, tuple) and all(part is None or isinstance(part, str) for part in node)


def shardings(logical: Any, mesh: Mesh, rules: ShardingRules, abstract: Any = None) -> Any:
    """Pytree of NamedSharding for a pytree of logical axes; `abstract` (same shape) gives sizes to check."""
    if abstract is None:
        return jax.tree.map(lambda axes: NamedSharding(mesh, rules.spec(axes, None, mesh)), logical, is_leaf=_is_axes)
    return jax.tree.map(
        lambda axes, leaf: NamedSharding(mesh, rules.spec(axes, leaf.shape, mesh)),
        logical,
        abstract,
        is_leaf=_is_axes,
    )


def laid_out(shapes: Any, layout: Any) -> Any:
    """Pytree of ShapeDtypeStruct with their shardings, of arrays or shapes and a tree of shardings like it."""
    return jax.tree.map(lambda x, to: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=to), shapes, layout)


def batch_sharding(mesh: Mesh, rules: ShardingRules, leading: int = 0) -> NamedSharding:
    """Sharding of `[B, ...]`, or of `[A, B, ...]` with `leading` unsharded axes before the batch axis."""
    axes = rules.mesh_axes("batch")
    return NamedSharding(mesh, PartitionSpec(*([None] * leading), axes))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def on_devices(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array of the host, laid out. Of several processes each has the whole one, and gives its own part."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def reshard(tree: Any, to: Any, dtype: Any = None) -> Any:
    """Moves a pytree to other shardings, cast to `dtype`, on the devices: never through the host."""
    leaves, structure = jax.tree.flatten(to)
    return _mover(tuple(leaves), structure, None if dtype is None else jnp.dtype(dtype))(tree)


@functools.lru_cache(maxsize=16)
def _mover(leaves: tuple[Any, ...], structure: Any, dtype: Any) -> Any:
    """One jitted function a layout, so that the next round's move is not compiled again."""

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: x if dtype is None else jnp.asarray(x, dtype), tree)

    return jax.jit(cast, out_shardings=jax.tree.unflatten(structure, leaves))
