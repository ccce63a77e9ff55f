"""The device mesh `(slice, data, fsdp, tensor)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from selfevo_jax.errors import ConfigError
from selfevo_jax.sharding.torus import arrange

AXES = ("slice", "data", "fsdp", "tensor")


def nearest_divisors(size: int, of: int) -> list[int]:
    """The divisors of `of` nearest to `size`, one on each side where there is one."""
    divisors = [d for d in range(1, of + 1) if of % d == 0]
    below = [d for d in divisors if d <= size][-1:]
    above = [d for d in divisors if d >= size][:1]
    return sorted({*below, *above})


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
    *,
    groups: int | None = None,
) -> Mesh:
    """Mesh over `devices` (all by default) with axes `(slice, data, fsdp, tensor)`, neighbours in an axis near each
    other on the chips.

    Sizes are those of a slice; one may be -1 (inferred). Slices of TPUs, which only the data-centre network connects,
    are the outermost axis: rows are divided over it, but no parameter, so that none is gathered over that network.
    `groups`: what `regroup` will make groups of; these lie alike then, without which decoding does not compile for
    v5e:8x8.

    Raises ConfigError naming sizes, device count and the nearest valid sizes when they do not fit.
    """
    devices = list(jax.devices() if devices is None else devices)
    slices = by_slice(devices)
    found, where = len(slices[0]), "devices" if len(slices) == 1 else f"devices of each of {len(slices)} slices"
    if any(len(part) != found for part in slices):
        raise ConfigError(
            f"mesh: slices of {', '.join(str(len(part)) for part in slices)} devices; expected equal ones"
        )
    shape = _shape({"data": data, "fsdp": fsdp, "tensor": tensor}, found, where)
    finer = _divided(shape, groups or 1)
    return _mesh([arrange(part[: math.prod(shape)], finer).reshape(shape) for part in slices])


def regroup(mesh: Mesh, tensor: int) -> Mesh:
    """The devices of a mesh in their order, `tensor` of them in a row for each copy of the parameters.

    Raises ConfigError where that does not divide the devices of a slice.
    """
    slices, *_ = mesh.devices.shape
    shape = _shape({"data": -1, "fsdp": 1, "tensor": tensor}, mesh.size // slices, "devices")
    return _mesh(mesh.devices.reshape(slices, *shape))


def _divided(shape: Sequence[int], groups: int) -> tuple[int, ...]:
    """A finer shape of an array in the same order, which has an axis or several for its runs of `groups`; the shape
    itself where they do not come out."""
    found: list[int] = []
    for size in reversed(shape):
        inner = math.gcd(size, groups)
        if inner not in (size, groups):
            return tuple(shape)
        found += [inner, size // inner]
        groups //= inner
    return tuple(reversed(found))


def _shape(sizes: dict[str, int], found: int, where: str) -> tuple[int, ...]:
    """The sizes with the one that is -1 inferred for so many devices."""
    free = [name for name, size in sizes.items() if size == -1]
    bad = [name for name, size in sizes.items() if size < 1 and size != -1]
    if bad or len(free) > 1:
        raise ConfigError(f"mesh {sizes}: each size is 1 or more, and at most one is -1 (inferred)")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if free:
        if found % fixed:
            near = nearest_divisors(fixed, found)
            raise ConfigError(
                f"mesh {sizes}: {fixed} does not divide {found} {where}; the product of the fixed sizes "
                f"can be {' or '.join(map(str, near))}"
            )
        return tuple(found // fixed if size == -1 else size for size in sizes.values())
    if fixed > found:
        raise ConfigError(f"mesh {sizes}: needs {fixed} devices, found {found} {where}; set one size to -1")
    return tuple(sizes.values())


def _mesh(devices: Sequence[np.ndarray] | np.ndarray) -> Mesh:
    """Of the devices of each slice."""
    return Mesh(np.stack(list(devices)), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def by_slice(devices: Sequence[jax.Device]) -> list[list[jax.Device]]:
    """Devices by the slice of TPUs that they belong to; all others are one."""
    found: dict[int, list[jax.Device]] = {}
    for device in devices:
        on_tpu = device.platform == "tpu"
        found.setdefault((getattr(device, "slice_index", 0) or 0) if on_tpu else 0, []).append(device)
    return [found[index] for index in sorted(found)]


def sizes_of(mesh: Mesh) -> dict[str, int]:
    """Its axes for people; that of slices where there are several."""
    return {name: size for name, size in mesh.shape.items() if name != "slice" or size > 1}


def on_each_device(
    function: Callable[..., Any], mesh: Mesh, given: Any, made: Any, outer: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """The function on each device of a mesh by itself, with arguments and results that lie by these PartitionSpecs.

    `outer`: axes of the mesh that the caller is mapped over already; specs do not name them.
    """
    # inside a mapped function the mesh is the one of its context, and the axes that are left have to be named
    where: Any = {"axis_names": set(mesh.axis_names) - set(outer)} if outer else {"mesh": mesh}
    return jax.shard_map(function, in_specs=given, out_specs=made, check_vma=False, **where)


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether devices of other processes belong to the mesh: then every process must run the same programs on it."""
    return mesh is not None and any(d.process_index != jax.process_index() for d in mesh.devices.flat)
