"""Which slots may copy the cache of another: samples of one prompt, prompts with a common system text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHARE_FROM = 32
"""Tokens at least that a copy of another slot's cache must save: a copy takes as long as a few tokens."""

Tokens = tuple[int, ...]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


@dataclass(frozen=True)
class Copy:
    """The first `length` tokens of the cache of slot `source` are those of slot `target`'s text too."""

    source: int
    target: int
    length: int


def plan_copies(wanted: Mapping[int, Tokens], held: Mapping[int, Tokens]) -> tuple[list[int], list[int], list[Copy]]:
    """Who copies from whom.

    Args:
      wanted: the text that each waiting slot is to hold.
      held: the text in the cache of each slot that can be copied from; a waiting slot's is a beginning of what it
        wants.

    Returns the slots to extend now, those to come back for (their text begins as that of a slot that is about to be
    extended), and the copies to make first, in an order in which none reads a slot that an earlier one wrote.
    """
    now = [i for i, text in wanted.items() if len(text) <= SHARE_FROM]
    long = sorted((i for i, text in wanted.items() if len(text) > SHARE_FROM), key=lambda i: -len(held[i]))
    if not long:
        return now, [], []
    holders: dict[Tokens, list[int]] = {}
    for j, text in held.items():
        holders.setdefault(text[:SHARE_FROM], []).append(j)
    leaders: dict[Tokens, list[int]] = {}
    overwritten: set[int] = set()
    later: list[int] = []
    copies: list[Copy] = []
    for i in long:
        text = wanted[i]
        start, have = text[:SHARE_FROM], len(held[i]) + SHARE_FROM
        found = [(common_prefix(held[j], text), j) for j in holders.get(start, []) if j not in overwritten]
        most, source = max(found, default=(0, i))
        ahead = max((common_prefix(wanted[j], text) for j in leaders.get(start, [])), default=0)
        most, ahead = (min(n, len(text) - 1) for n in (most, ahead))  # the last one again: its logits are needed
        if ahead > most and ahead >= have:
            later.append(i)
            continue
        if most >= have:
            copies.append(Copy(source, i, most))
            overwritten.add(i)
        leaders.setdefault(start, []).append(i)
        now.append(i)
    return now, later, copies
