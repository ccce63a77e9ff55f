"""Which chains a page holds: all of a small run, a stated part of a large one."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from selfevo_jax.report.entries import (
    BAD_RIGHT,
    FAILED,
    GOOD_WRONG,
    SPOILT,
    UNREAD,
    Entry,
    answers_of,
    chains_of,
)
from selfevo_jax.report.page.tally import Tally
from selfevo_jax.run.run_dir import RunDir

T = TypeVar("T")

_NOTABLE_KINDS, _NOTABLE_VERDICTS = frozenset((SPOILT, FAILED)), frozenset((GOOD_WRONG, BAD_RIGHT, UNREAD))
_TEXT = 4000
"""Characters of one text."""


@dataclass(frozen=True)
class Limits:
    """How much of a run a page holds."""

    chains: int = 400
    """Of a round."""
    rows: int = 150
    """Of an evaluation set, each with the answers of every checkpoint."""
    characters: int | None = 4_000_000
    """Of all texts together; None: any number."""


@dataclass
class Group:
    """The chains of a round, or the answers to an evaluation set, in a page."""

    run: int
    at: str | None
    """The round; None for a set, whose rows are shown at every checkpoint."""
    set: str | None
    of: int
    """How many chains, or rows of the set, there are."""
    shown: int = 0
    notable: int = 0
    """Of all: those where something went wrong (see `is_notable`)."""
    tally: dict[str, Any] | None = None
    """Of a round: what all of its chains come to (a `Tally` as plain values)."""
    entries: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "entries"}


def is_notable(entry: Entry) -> bool:
    """Whether something went wrong in a chain: cut, failed, spoilt, or with a verdict that is unread or untrue."""
    return entry.clipped or entry.kind in _NOTABLE_KINDS or entry.verdict in _NOTABLE_VERDICTS


def order(id: str, sample: int = 0) -> bytes:
    """Chains are drawn by this: the same ones in every page, round and run."""
    return hashlib.blake2b(f"{id}/{sample}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


class _First:
    """The first so many of a stream, by their order, without keeping the others."""

    def __init__(self, most: int) -> None:
        self._most, self._heap = most, list[tuple[int, int, Entry]]()
        self.seen = 0

    def add(self, place: int, entry: Entry) -> None:
        self.seen += 1
        item = (-int.from_bytes(order(entry.rollout.id, entry.rollout.sample)), place, entry)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, item)
        elif self._heap and item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def taken(self) -> list[tuple[int, Entry]]:
        """With their places in the stream."""
        return [(place, entry) for _, place, entry in sorted(self._heap, reverse=True)]


def chosen_chains(entries: Iterable[Entry], most: int) -> tuple[list[Entry], int, int]:
    """`most` entries in the order given, how many there are, and how many of these are notable. Up to half of them are
    notable ones, more where there are too few others."""
    notable, others = _First(most), _First(most)
    for place, entry in enumerate(entries):
        (notable if is_notable(entry) else others).add(place, entry)
    taken = _mixed(notable.taken(), others.taken(), most)
    return [entry for _, entry in sorted(taken, key=lambda one: one[0])], notable.seen + others.seen, notable.seen


def _mixed(notable: Sequence[T], others: Sequence[T], most: int) -> list[T]:
    first = notable[: max(most // 2, most - len(others))]
    return [*first, *others[: most - len(first)]]


def of_round(run: RunDir, number: int, index: int, limits: Limits, characters: int | None) -> Group:
    """Args: `index`: of the run in its page; `characters`: of this group."""
    tally = Tally()
    taken, of, notable = chosen_chains(tally.of(chains_of(run, number)), limits.chains)
    group = Group(index, f"round {number}", None, of, notable=notable, tally=tally.to_dict())
    _fill(group, ([entry] for entry in taken), characters)
    return group


def of_set(
    run: RunDir,
    set_name: str,
    checkpoints: Sequence[tuple[str, str]],
    index: int,
    rows: Sequence[str],
    limit: int | None,
) -> Group:
    """The answers of every checkpoint to some rows of a set.

    Args: `checkpoints`: as they are shown, and as the run directory names them; `rows`: ids, the first ones to be shown
    first; `limit`: characters of the group.
    """
    wanted = set(rows)
    found: dict[str, list[Entry]] = {id: [] for id in rows}
    group = Group(index, None, set_name, 0)
    for shown, name in checkpoints:
        of = notable = 0
        for entry in answers_of(run, name, shown, set_name):
            of, notable = of + 1, notable + is_notable(entry)
            if entry.rollout.id in wanted:
                found[entry.rollout.id].append(entry)
        if of:  # of the last checkpoint that has answers
            group.of, group.notable = of, notable
    _fill(group, (of for of in found.values() if of), limit)
    return group


def chosen_rows(entries: Iterable[Entry], favoured: Collection[str], most: int) -> list[str]:
    """Ids of rows of a set: up to half of them favoured or, behind those, notable ones; the others by `order`."""
    notable = {entry.rollout.id: is_notable(entry) for entry in entries}
    drawn = sorted(notable, key=order)
    first = [id for id in drawn if id in favoured]
    first += [id for id in drawn if notable[id] and id not in favoured]
    others = [id for id in drawn if not notable[id] and id not in favoured]
    return _mixed(first, others, most)


def _fill(group: Group, together: Iterable[Sequence[Entry]], characters: int | None) -> None:
    """Puts entries in, those of a row together, while their texts have room."""
    used = 0
    for entries in together:
        added = [_shortened({"run": group.run, **entry.to_dict()}) for entry in entries]
        used += sum(len(text) for one in added for text in _strings(one))
        if group.entries and characters is not None and used > characters:
            return
        group.entries += added
        group.shown += 1


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _shortened(entry: dict[str, Any]) -> dict[str, Any]:
    """With texts of at most _TEXT characters, and a note where one has more."""
    found: dict[str, Any] = _mapped(entry, _short)
    return found


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    return [_mapped(inner, change) for inner in value] if isinstance(value, list) else value


def _short(text: str) -> str:
    more = len(text) - _TEXT
    return text if more <= 0 else f"{text[:_TEXT]} … [{more:,} more characters]"
