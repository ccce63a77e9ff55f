"""The shapes that programs are compiled for: rows and lengths of an extend, and parts of the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

LONGEST_EXTEND = 512
"""Tokens of a row in one extend at most; longer texts go in pieces."""
EXTEND_TOKENS = 4096
"""Tokens of one extend at most, padding included; it bounds the memory of the scores."""


WORTH_TOKENS, WORTH_TOKENS_CPU = 256, 32
"""Tokens from which on a product is bound by its arithmetic, so that more rows of it take more time."""
DISPATCH_FLOPS_CPU = 1e9
"""What a CPU computes in a few times the time of a dispatch: where a row has more, rows side by side save nothing."""
LENGTH_TOKENS = 4096
"""Tokens of padding that one more length of an extend must save: two cores compute about as many of SmolLM2-135M while
they compile it, and far more of a smaller model."""
ROWS_OF_A_SHARD = 8
"""Rows that one extend takes at most from each of several shards, which go through as many as they have."""
OVERLAP_STEPS = 1
"""Decode steps that an accelerator runs while the host reads what it drew before them (see `Engine`): one makes a run
longer by a fortieth of its steps at most (test_shards.py), and hides as much of the host's time as a step takes."""
_DISPATCH_ROWS = 0.5
"""What a dispatch costs besides, in rows."""


def few_rows(slots: int) -> int:
    """An eighth of many slots, a quarter of few."""
    return max(1, slots // 8 if slots >= 64 else slots // 4)


def decode_rows(slots: int, by_kernel: bool = False) -> tuple[int, ...]:
    """Rows of decoding: all slots, and while the last chains drain a half of them or few, if that is a fair number.

    Where a kernel reads the cache, only as far as a slot is filled, slots at rest cost next to nothing, while fewer
    rows would need a copy of their caches: always all slots.
    """
    if by_kernel:
        return (slots,)
    return tuple(sorted({rows for rows in (few_rows(slots), slots // 2) if 8 <= rows < slots} | {slots}))


def extend_rows(slots: int) -> int:
    """Rows of an extend: enough for efficient products, and a refill of a few slots is not mostly padding."""
    return min(8, few_rows(slots))


def fewest_rows(length: int, worth: int) -> int:
    """The least power of two of rows of this length that make `worth` tokens."""
    return 1 << max(0, (-(-worth // length) - 1).bit_length())


def rows_together(length: int, most: int, on_cpu: bool) -> int:
    """Rows of an extend of this length that make enough tokens for efficient products, at most so many."""
    return min(fewest_rows(length, WORTH_TOKENS_CPU if on_cpu else WORTH_TOKENS), most)


def rows_of_a_shard(length: int, slots: int, on_cpu: bool) -> int:
    """Those of one of several shards, with so many slots: on an accelerator the fewest that make half as many tokens. A
    shard has few texts to extend at a time: with twice the rows most would be empty, and with half of them it would go
    through the parameters once more for what takes the same time at once (test_shards.py counts the places)."""
    worth = WORTH_TOKENS_CPU if on_cpu else WORTH_TOKENS // 2
    return min(-(-worth // length), slots, ROWS_OF_A_SHARD)


def cover(count: int, rows: Sequence[int]) -> list[int]:
    """Extends, by their rows, that hold `count` rows at the least cost: rows, filled or not, and dispatches."""
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for n in range(1, count + 1):
        found = [(best[max(0, n - r)][0] + r + _DISPATCH_ROWS, [*best[max(0, n - r)][1], r]) for r in rows]
        best.append(min(found, key=lambda one: one[0]))
    return sorted(best[count][1], reverse=True)


def length_buckets(cache_length: int, longest: int = LONGEST_EXTEND) -> tuple[int, ...]:
    """8, 16 and from there powers of two and their halfway points, up to the first that covers the cache, or up to
    `longest`; longer prompts go in pieces."""
    buckets = [8, 16, 32]
    while buckets[-1] < min(cache_length, longest):
        buckets += [buckets[-1] * 3 // 2, buckets[-1] * 2]
    return tuple(buckets)


def cache_windows(cache_length: int, multiple: int = 64) -> tuple[int, ...]:
    """Where the parts of the cache end: up to four, in steps of `multiple` positions.

    A decode step reads the keys and values of every position in its window, so its time grows with the window. A
    program has one window, or finds out when it runs which parts are in reach (see `Transformer.skips`).
    """
    step = -(-cache_length // (4 * multiple)) * multiple
    return (*range(step, cache_length, step), cache_length)


def extend_windows(windows: Sequence[int]) -> tuple[int, ...]:
    """Those of `cache_windows` that extends are compiled for, each with every length: the whole of a short cache, half
    of it too from 512 positions on, and all beyond 1,024."""
    if windows[-1] > 1024:
        return tuple(windows)
    return tuple(windows[-1:]) if windows[-1] <= 512 else (windows[len(windows) // 2 - 1], windows[-1])


def fit_length_buckets(
    lengths: Iterable[int],
    most: int = 4,
    multiple: int = 8,
    longest: int = LONGEST_EXTEND,
    spare: float = 0.06,
    worth: float = 0.0,
) -> tuple[int, ...]:
    """The fewest lengths, multiples of `multiple`, that pad a histogram of extend lengths by a share of `spare` at most
    beyond those multiples; or `most` lengths that pad it the least. They are few because each is a program to compile,
    and on a CPU one of 30 layers takes about a thousand of the 65,530 memory maps that Linux gives a process.

    `worth`: tokens that each length after the first must save at least. A length above `longest` goes in pieces. Exact,
    by dynamic programming over the lengths that occur.
    """

    def pieces(length: int) -> list[int]:
        whole, rest = divmod(max(1, length), longest)
        return [longest] * whole + ([-(-rest // multiple) * multiple] if rest else [])

    found = Counter(piece for length in lengths for piece in pieces(length))
    sizes, least = sorted(found), sum(size * count for size, count in found.items())
    # best[j] after k rounds: (padded tokens, buckets) of the j smallest sizes with at most k buckets
    unreached: tuple[int, tuple[int, ...]] = (sum(found.values()) * longest + 1, ())
    best = [(0, ()), *[unreached] * len(sizes)]
    for _ in range(most):
        after = list(best)
        for j, top in enumerate(sizes, start=1):
            for i in range(j):
                cost = best[i][0] + top * sum(found[s] for s in sizes[i:j])
                if cost < after[j][0]:
                    after[j] = (cost, (*best[i][1], top))
        if best[-1][1] and best[-1][0] - after[-1][0] < worth:
            break
        best = after
        if best[-1][0] <= (1 + spare) * least:
            break
    return best[-1][1]
