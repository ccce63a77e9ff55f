"""Rows of D_meta in shares."""

from __future__ import annotations

import random
from collections.abc import Mapping

from selfevo_jax.data import MetaRow


def balanced(
    sorts: Mapping[str, list[MetaRow]], right_share: float, near_share: float, limit: int | None, rng: random.Random
) -> list[MetaRow]:
    """Rows of each sort (`right`, `near` for near misses, `wrong` for the others) in these shares, as many as the
    scarcest allows, and `limit` at most, drawn and shuffled by `rng`. Near misses have no more than what right rows
    leave."""
    for found in sorts.values():
        rng.shuffle(found)
    near = min(near_share, 1 - right_share)
    shares = {"right": right_share, "near": near, "wrong": max(0.0, 1 - right_share - near)}
    most = [int(len(sorts[sort]) / share) for sort, share in shares.items() if share > 0]
    number = min([*most, *([] if limit is None else [limit])])
    taken = [row for sort, share in shares.items() for row in sorts[sort][: round(share * number)]]
    rng.shuffle(taken)
    return taken
