"""Where slots lie: which shard of a mesh has which of them, and the rows of a dispatch that stand for some of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from selfevo_jax.sample.sharing import SHARE_FROM, Tokens, common_prefix


@dataclass(frozen=True)
class Placing:
    """Slots over shards (see `Shards`), the same number on each."""

    slots: int
    shards: int = 1

    @property
    def each(self) -> int:
        """Slots of a shard."""
        return self.slots // self.shards

    def of_shard(self, shard: int) -> range:
        return range(shard * self.each, (shard + 1) * self.each)

    def by_shard(self, slots: Iterable[int]) -> list[list[int]]:
        """Slots by the shard that they lie on, in their order."""
        found: list[list[int]] = [[] for _ in range(self.shards)]
        for i in slots:
            found[i // self.each].append(i)
        return found

    def rows_of(self, chosen: Sequence[Sequence[int]], n_rows: int) -> tuple[np.ndarray, dict[int, int]]:
        """Slot ids i32[shards * n_rows], filled up with one that is out of range, and slot -> row, of slots that were
        chosen by shard, n_rows of each at most."""
        ids = np.full((self.shards, n_rows), self.slots, np.int32)
        for row, shard in zip(ids, chosen, strict=True):
            row[: len(shard)] = shard
        return ids.reshape(-1), {i: at * n_rows + row for at, shard in enumerate(chosen) for row, i in enumerate(shard)}

    def computed(self, chosen: Sequence[Sequence[int]], n_rows: int, at_once: int) -> list[int]:
        """Rows that each shard goes through in an extend of n_rows a shard, `at_once` of all shards side by side."""
        together = at_once // self.shards
        return [n_rows if together == n_rows else -(-len(shard) // together) * together for shard in chosen]

    def first(self, n_rows: int) -> np.ndarray:
        """The first slots of each shard."""
        return (np.arange(0, self.slots, self.each)[:, None] + np.arange(n_rows)).reshape(-1)

    def moves(self, live: Sequence[int], n_rows: int) -> list[tuple[int, int]]:
        """(from, to) within shards, so that those which are live come to lie among the first ones of each."""
        found: list[tuple[int, int]] = []
        for at, shard in enumerate(self.by_shard(live)):
            first = self.of_shard(at)[:n_rows]
            found += zip((i for i in shard if i not in first), (j for j in first if j not in shard), strict=False)
        return found

    def copies(self, pairs: Iterable[tuple[int, int]], n_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Sources and targets i32[shards * n_rows] of calls that copy (source, target) within shards, in their order;
        they are filled up with targets out of range."""
        left: list[list[tuple[int, int]]] = [[] for _ in range(self.shards)]
        for source, target in pairs:
            left[target // self.each].append((source, target))
        for at in range(0, max(map(len, left)), n_rows):
            sources = np.repeat(np.arange(0, self.slots, self.each, dtype=np.int32)[:, None], n_rows, axis=1)
            targets = np.full_like(sources, self.slots)
            for number, shard in enumerate(left):
                for row, pair in enumerate(shard[at : at + n_rows]):
                    sources[number, row], targets[number, row] = pair
            yield sources.reshape(-1), targets.reshape(-1)

    def best(self, free: Sequence[int], tokens: Tokens, texts: Sequence[Tokens], busy: Sequence[bool]) -> int:
        """The free slot for a text: on several shards, of the one that holds most of it, and of such the one that has
        the fewest busy slots. `texts` are those in the slots."""
        if self.shards == 1:
            return free[0]
        held, at_work = [], []
        for shard in map(self.of_shard, range(self.shards)):
            most = max(common_prefix(texts[i], tokens) for i in shard)
            held.append(most if most > SHARE_FROM else 0)
            at_work.append(sum(busy[i] for i in shard))
        return max(free, key=lambda i: (held[i // self.each], -at_work[i // self.each]))
