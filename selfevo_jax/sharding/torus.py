"""Which TPU chip stands where in a mesh: neighbours along an axis are near each other on the links between chips."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_WRAPS_LITE, _WRAPS = 16, 4
"""Chips along an axis of the torus from which on its ends are linked: v5e and v6e, and the others."""


def arrange(devices: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Devices of one slice as an array of this shape, whose axes communicate the more the further in they are.

    Of TPUs that fill a box of the torus, each axis of the mesh takes factors of the box's sides, and goes around what
    it takes in a ring; of all ways to do so the one with the fewest hops between neighbours in rings is taken.
    (jax.make_mesh goes through a side from its start each time, so that it jumps back.) Others stay in their order.
    """
    box = _box(devices)
    if box is None:
        return np.asarray(devices).reshape(shape)
    found = ((ring_hops(mesh, box), mesh) for mesh in _ways(box, shape))
    # the sum over the axes first, and then the inner ones
    return min(found, key=lambda one: (round(sum(one[0]), 9), one[0][::-1]))[1]


def ring_hops(mesh: np.ndarray, box: np.ndarray) -> tuple[float, ...]:
    """Links from a device to the next one in its ring along each axis of a mesh, in the mean; 0 for an axis of one."""
    at = {id(device): np.asarray(where) for where, device in np.ndenumerate(box)}
    coords = np.asarray([at[id(device)] for device in mesh.flat]).reshape(*mesh.shape, box.ndim)
    least = _WRAPS_LITE if "lite" in mesh.flat[0].device_kind else _WRAPS
    found = []
    for axis, size in enumerate(mesh.shape):
        apart = np.abs(coords - np.roll(coords, -1, axis))
        ends = [side if side >= least else 2 * side for side in box.shape]
        apart = np.minimum(apart, np.asarray(ends) - apart)
        found.append(float(apart.sum(-1).mean()) if size > 1 else 0.0)
    return tuple(found)


def _box(devices: Sequence[Any]) -> np.ndarray | None:
    """TPUs by x, y, z and core; None for others, and where they do not fill a box."""
    if devices[0].platform != "tpu" or len(devices) == 1:
        return None
    places = np.asarray([(*device.coords, device.core_on_chip) for device in devices])
    places -= places.min(axis=0)
    sides = places.max(axis=0) + 1
    if np.prod(sides) != len(devices):
        return None
    box = np.empty(sides, object)
    for place, device in zip(places.tolist(), devices, strict=True):
        box[tuple(place)] = device
    return box if all(device is not None for device in box.flat) else None


def _ways(box: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Meshes of this shape: each side of the box is divided among the axes, one inside the other in some order."""
    axes = range(len(shape))
    for split in _splits(box.shape, shape):
        taken = [[axis for axis in axes if side[axis] > 1] for side in split]
        for nesting in itertools.product(*map(itertools.permutations, taken)):
            sizes = [side[axis] for side, order in zip(split, nesting, strict=True) for axis in order]
            owners = [axis for order in nesting for axis in order]
            digits = box.reshape(sizes)
            # the digits of each axis stand together, in their order of the sides
            order = sorted(range(len(sizes)), key=lambda i: owners[i])
            mesh = digits.transpose(order)
            for axis in axes:
                own = [sizes[i] for i in order if owners[i] == axis]
                at = axis  # those before it are joined already
                rest = mesh.shape[at + len(own) :]
                flat = mesh.reshape(*mesh.shape[:at], shape[axis], *rest)
                mesh = flat.take(ring(own), axis=at)
            yield mesh


def _splits(sides: Sequence[int], shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """For each side how much of it each axis takes, in all ways that give each axis its size."""
    if not sides:
        if all(size == 1 for size in shape):
            yield ()
        return
    options = [[n for n in range(1, size + 1) if size % n == 0] for size in shape]
    for side in itertools.product(*options):
        if np.prod(side) == sides[0]:
            left = [size // n for size, n in zip(shape, side, strict=True)]
            for others in _splits(sides[1:], left):
                yield (side, *others)


def ring(sizes: Sequence[int]) -> list[int]:
    """An order of all cells of a box (flat indices, the last side innermost) in which each is a neighbour of the one
    before; where two of its sides are longer than 1 and one of those is even, the first is one of the last too."""
    long = [at for at, size in enumerate(sizes) if size > 1]
    cells = np.arange(int(np.prod(sizes))).reshape([sizes[at] for at in long] or [1])
    if cells.ndim == 1:
        return cells.tolist()
    if cells.ndim == 2:
        a, b = cells.shape
        if a % 2 and b % 2:
            return _snake(cells)
        rows = cells if a % 2 == 0 else cells.T
        # down the first column and back up in a snake through the others
        inner = [list(row[1:]) for row in rows]
        back = [cell for number, row in enumerate(reversed(inner)) for cell in (row if number % 2 == 0 else row[::-1])]
        return [int(cell) for cell in [*rows[:, 0], *back]]
    return _snake(cells)


def _snake(cells: np.ndarray) -> list[int]:
    if cells.ndim == 1:
        return [int(cell) for cell in cells]
    parts = [_snake(part) for part in cells]
    return [cell for number, part in enumerate(parts) for cell in (part if number % 2 == 0 else part[::-1])]
