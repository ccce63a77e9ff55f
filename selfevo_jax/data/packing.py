"""Several short sequences in one row of fixed length: first-fit, with segment ids and restarted positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfevo_jax.data.examples import Example
from selfevo_jax.errors import DataError

_OPEN_ROWS = 4096
"""Rows that first-fit looks back on: bounds its work on large sets, and costs next to no space."""


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows of L tokens, `[N, L]` each. Segment 0 is padding (token 0, weight 0, position 0); sequences count from 1."""

    tokens: np.ndarray
    weights: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray
    ids: list[list[str]]
    """Ids of the examples in each row, in order."""


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


def fill_rows(groups: Sequence[Sequence[Example]], length: int, rows: int | None = None) -> PackedRows:
    """Lays each group of examples in one row of `length` tokens; `rows` adds empty rows up to that number.

    Raises DataError for an example that does not fit: callers drop and count those first (`fit_length`).
    """
    count = max(len(groups), rows or 0)
    tokens = np.zeros((count, length), np.int32)
    weights = np.zeros((count, length), np.float32)
    segment_ids = np.zeros((count, length), np.int32)
    positions = np.zeros((count, length), np.int32)
    ids: list[list[str]] = [[] for _ in range(count)]
    for row, group in enumerate(groups):
        start = 0
        for segment, example in enumerate(group, start=1):
            stop = start + len(example)
            if stop > length:
                raise DataError(
                    f"row {example.id!r}", None, None, f"{stop} tokens, but a row holds {length}; drop it or raise it"
                )
            tokens[row, start:stop] = example.tokens
            weights[row, start:stop] = example.weights
            segment_ids[row, start:stop] = segment
            positions[row, start:stop] = np.arange(len(example))
            ids[row].append(example.id)
            start = stop
    return PackedRows(tokens, weights, segment_ids, positions, ids)


def pack(examples: Sequence[Example], length: int, packing: bool = True) -> PackedRows:
    """Packs examples, in the order given, in rows of `length` tokens; without `packing`, one example a row."""
    if packing:
        groups = [[examples[i] for i in row] for row in first_fit([len(e) for e in examples], length)]
    else:
        groups = [[e] for e in examples]
    return fill_rows(groups, length)
