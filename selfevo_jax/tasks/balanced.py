"""Rows of D_meta in shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from selfevo_jax.data import MetaRow


def balanced(
    sorts: Mapping[str, Sequence[MetaRow]], right_share: float, near_share: float, limit: int | None
) -> list[MetaRow]:
    """Rows of each sort (`right`, `near` for near misses, `wrong` for the others) in these shares, as many as the
    scarcest allows, and `limit` at most. Near misses have no more than what right rows leave."""
    near = min(near_share, 1 - right_share)
    shares = {"right": right_share, "near": near, "wrong": max(0.0, 1 - right_share - near)}
    most = [int(len(sorts[sort]) / share) for sort, share in shares.items() if share > 0]
    number = min([*most, *([] if limit is None else [limit])])
    return [row for sort, share in shares.items() for row in sorts[sort][: round(share * number)]]
