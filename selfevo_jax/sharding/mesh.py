"""The device mesh `(data, fsdp, tensor)`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from selfevo_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")


def nearest_divisors(size: int, of: int) -> list[int]:
    """The divisors of `of` nearest to `size`, one on each side where there is one."""
    divisors = [d for d in range(1, of + 1) if of % d == 0]
    below = [d for d in divisors if d <= size][-1:]
    above = [d for d in divisors if d >= size][:1]
    return sorted({*below, *above})


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh over `devices` (all by default) with axes `(data, fsdp, tensor)`; one size may be -1 (inferred).

    Raises ConfigError naming sizes, device count and the nearest valid sizes when they do not fit.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    free = [name for name, size in sizes.items() if size == -1]
    bad = [name for name, size in sizes.items() if size < 1 and size != -1]
    if bad or len(free) > 1:
        raise ConfigError(f"mesh {sizes}: each size is 1 or more, and at most one is -1 (inferred)")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if free:
        if len(devices) % fixed:
            near = nearest_divisors(fixed, len(devices))
            raise ConfigError(
                f"mesh {sizes}: {fixed} does not divide {len(devices)} devices; the product of the fixed sizes "
                f"can be {' or '.join(map(str, near))}"
            )
        sizes[free[0]] = len(devices) // fixed
    elif fixed > len(devices):
        raise ConfigError(f"mesh {sizes}: needs {fixed} devices, found {len(devices)}; set one size to -1")
    count = math.prod(sizes.values())
    # built by hand: jax.make_mesh makes Explicit axes by default in recent versions
    return Mesh(np.asarray(devices[:count]).reshape(tuple(sizes.values())), AXES)


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether devices of other processes belong to the mesh: then every process must run the same programs on it."""
    return mesh is not None and any(d.process_index != jax.process_index() for d in mesh.devices.flat)
