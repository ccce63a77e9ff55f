"""Several short sequences in one row of fixed length, with segment ids and restarted positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from selfevo_jax.data.examples import Unit
from selfevo_jax.errors import DataError

_OPEN_ROWS = 4096
"""Rows that first-fit looks back on: bounds its work on large sets, and costs next to no space."""
_WINDOW = 512
"""Sequences that one search for the best fill looks at: more leave no less space, and take longer."""

Packing = Literal["tight", "shuffled", "none"]
"""`tight`: `best_fill`; `shuffled`: first-fit in shuffled order, so that a row's sequences are independent of each
other and more space is left; `none`: one sequence a row."""


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows of L tokens, `[N, L]` each. Segment 0 is padding (token 0, weight 0, position 0); sequences count from 1."""

    tokens: np.ndarray
    weights: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray
    ids: list[list[str]]
    """Ids of the examples in each row, in order; those of a group one by one."""
    extras: dict[str, np.ndarray]
    """Name -> float32 `[N, L]`, or `[N, L, K]`: the number of each token, or of its example; 0 in padding."""


def first_fit(lengths: Sequence[int] | np.ndarray, length: int) -> list[list[int]]:
    """Rows of indices: each sequence, in the order given, goes in the first row that has room, else in a new one."""
    sizes = np.asarray(lengths, np.int64)
    if not len(sizes):
        return []
    shortest = int(sizes.min())
    room = np.zeros(len(sizes), np.int64)
    rows: list[list[int]] = []
    low = 0
    for index, size in enumerate(sizes.tolist()):
        while low < len(rows) and room[low] < shortest:
            low += 1
        start = max(low, len(rows) - _OPEN_ROWS)
        fits = room[start : len(rows)] >= size
        at = int(fits.argmax()) if fits.size else 0
        if fits.size and fits[at]:
            rows[start + at].append(index)
            room[start + at] -= size
        else:
            room[len(rows)] = length - size
            rows.append([index])
    return rows


def best_fill(lengths: Sequence[int] | np.ndarray, length: int) -> list[list[int]]:
    """Rows of indices: each takes the longest sequence left and the others that fill it best, among _WINDOW at a time.

    "Minimum bin slack" (Gupta and Ho, Production Planning & Control 10, 1999) with the exact best fill, by dynamic
    programming over sums as the bits of one whole number.
    """
    sizes = np.asarray(lengths, np.int64).tolist()
    rows: list[list[int]] = []
    for start in range(0, len(sizes), _WINDOW):
        left = sorted(range(start, min(start + _WINDOW, len(sizes))), key=lambda i: (-sizes[i], i))
        while left:
            first = left.pop(0)
            chosen = _fill([sizes[i] for i in left], max(0, length - sizes[first]))
            rows.append([first, *(left[i] for i in chosen)])
            for i in reversed(chosen):
                del left[i]
    return rows


def _fill(sizes: Sequence[int], room: int) -> list[int]:
    """Places of the sizes whose sum comes nearest to `room` from below; of equal sums one of the earliest sizes."""
    within = (1 << (room + 1)) - 1
    sums, before = 1, list[int]()  # bit n of `sums`: n is the sum of some of the sizes so far
    for size in sizes:
        before.append(sums)
        sums |= (sums << size) & within
        if sums >> room:
            break
    best, out = sums.bit_length() - 1, list[int]()
    for place in reversed(range(len(before))):
        if not before[place] >> best & 1:
            out.append(place)
            best -= sizes[place]
    return out[::-1]


def fill_rows(
    rows: Sequence[Sequence[Unit]],
    length: int,
    extras: Sequence[str] = (),
    widths: Mapping[str, int] = MappingProxyType({}),
) -> PackedRows:
    """Lays the examples and groups of each row in `length` tokens, with those of their `extras` that are named; none
    give an empty row. `widths`: of the extras that have K numbers a token this K.

    Raises DataError for an example that does not fit: callers drop and count those first (`fit_length`).
    """
    count = len(rows)
    tokens = np.zeros((count, length), np.int32)
    weights = np.zeros((count, length), np.float32)
    segment_ids = np.zeros((count, length), np.int32)
    positions = np.zeros((count, length), np.int32)
    numbers = {
        name: np.zeros((count, length, widths[name]) if name in widths else (count, length), np.float32)
        for name in extras
    }
    ids: list[list[str]] = [[] for _ in range(count)]
    for row, units in enumerate(rows):
        start = 0
        for segment, example in enumerate((e for unit in units for e in unit.members), start=1):
            stop = start + len(example)
            if stop > length:
                raise DataError(
                    f"row {example.id!r}", None, None, f"{stop} tokens, but a row holds {length}; drop it or raise it"
                )
            tokens[row, start:stop] = example.tokens
            weights[row, start:stop] = example.weights
            segment_ids[row, start:stop] = segment
            positions[row, start:stop] = np.arange(len(example))
            for name, values in numbers.items():
                values[row, start:stop] = example.extras[name]
            ids[row].append(example.id)
            start = stop
    return PackedRows(tokens, weights, segment_ids, positions, ids, numbers)


def rows_of(lengths: Sequence[int], length: int, packing: Packing) -> list[list[int]]:
    """Rows of indices of sequences, in the order given, by one of the ways to pack."""
    if packing == "none":
        return [[i] for i in range(len(lengths))]
    return best_fill(lengths, length) if packing == "tight" else first_fit(lengths, length)


def pack(examples: Sequence[Unit], length: int, packing: Packing = "tight") -> PackedRows:
    """Packs examples, in the order given, in rows of `length` tokens."""
    rows = rows_of([len(e) for e in examples], length, packing)
    return fill_rows([[examples[i] for i in row] for row in rows], length)
