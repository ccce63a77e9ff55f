"""Top-k and top-p by bisection on the bits of scores against sorting the vocabulary: time and memory of one step.

Below it, how long a draw takes with a random number for each token, and with one for each block and place in a block.

    python benchmarks/filters.py

32 rows of normally distributed logits, all with top_k 50 and top_p 0.9, then with top_p alone; the least of five calls
in turns counts. Temporaries are those of `compiled.memory_analysis()`; beside them stands what a step reads and writes
by `compiled.cost_analysis()`, which takes the body of a loop once: a bisection goes over the rows 31 times. Where
thousands of tokens are kept, rounding decides about the last ones: the last column counts, over all rows, tokens that
are kept and should not be, or the other way round, by sums in float64.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sampling_common import conclude, table, use_threads

from selfevo_jax.sample.methods import first_largest, sampled
from selfevo_jax.sample.ranks import largest_kept

ROWS, CALLS = 32, 5


def by_sorting(scores: jax.Array, top_k: jax.Array, mass: jax.Array) -> jax.Array:
    """As `largest_kept`."""
    vocab = scores.shape[-1]
    ordered = -jnp.sort(-scores, axis=-1)
    in_k = jnp.arange(vocab) < top_k[:, None]
    probs = jax.nn.softmax(jnp.where(in_k, ordered, -jnp.inf), axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs
    in_p = (before < mass[:, None]) | (mass >= 1)[:, None] | (jnp.arange(vocab) == 0)
    n_keep = jnp.maximum(jnp.sum(in_k & in_p, axis=-1), 1)
    edge = jnp.take_along_axis(ordered, (n_keep - 1)[:, None], axis=-1)
    tied = scores == edge
    room = n_keep - jnp.sum(scores > edge, axis=-1)
    return (scores > edge) | (tied & (jnp.cumsum(tied, axis=-1) <= room[:, None]))


def in_float64(scores: np.ndarray, top_k: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """The same on the host, row by row."""
    kept = np.zeros(scores.shape, bool)
    for row, k, share, found in zip(scores.astype(np.float64), top_k, mass.astype(np.float64), kept, strict=True):
        order = np.argsort(-row, kind="stable")[:k]
        weights = np.exp(row[order])
        before = np.cumsum(weights) - weights
        found[order[before < share * weights.sum()] if share < 1 else order] = True
    return kept


def by_tokens(scores: jax.Array, keys: jax.Array) -> jax.Array:
    """As `sampled`."""
    return first_largest(scores + jax.vmap(lambda key: jax.random.gumbel(key, scores.shape[-1:], jnp.float32))(keys))


def least_seconds(ways: dict[str, Any], arguments: Sequence[Any], results: dict[str, Any]) -> dict[str, float]:
    """The least of several calls of each, in turns; what the last gave lies in `results` after."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(CALLS):
        for name, way in ways.items():
            begin = time.perf_counter()
            results[name] = np.asarray(way(*arguments))
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", default=[49_152, 151_936], type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    use_threads(args.threads)
    lines, draws = [], []
    for vocab in args.vocab:
        logits = 3 * np.random.default_rng(0).normal(size=(ROWS, vocab)).astype(np.float32)
        scores = logits - logits.max(axis=1, keepdims=True)
        given = {
            "top_k 50, top_p 0.9": (np.full(ROWS, 50, np.int32), np.full(ROWS, 0.9, np.float32)),
            "top_p 0.9": (np.full(ROWS, vocab, np.int32), np.full(ROWS, 0.9, np.float32)),
        }
        ways: dict[str, Any] = {
            name: jax.jit(way).lower(scores, *given["top_p 0.9"]).compile()
            for name, way in (("sorting", by_sorting), ("bisection", largest_kept))
        }
        for what, settings in given.items():
            kept: dict[str, Any] = {}
            seconds = least_seconds(ways, (scores, *settings), kept)
            exact = in_float64(scores, *settings)
            for name, way in ways.items():
                temporaries = way.memory_analysis().temp_size_in_bytes / 2**20
                moved = (way.cost_analysis() or {}).get("bytes accessed", float("nan")) / 2**20
                shown = [vocab, what, name, f"{1e3 * seconds[name]:.1f}", f"{temporaries:.1f}", f"{moved:.0f}"]
                lines.append([*shown, int(exact.sum()), int((kept[name] != exact).sum())])
        keys = jax.random.split(jax.random.key(0), ROWS)
        ways = {
            name: jax.jit(way).lower(scores, keys).compile()
            for name, way in (("each token", by_tokens), ("blocks and places in a block", sampled))
        }
        draws += [
            [vocab, name, f"{1e3 * least:.1f}"] for name, least in least_seconds(ways, (scores, keys), {}).items()
        ]
    head = (
        "vocabulary",
        "settings",
        "by",
        "ms",
        "temporaries, MiB",
        "moved, MiB",
        "kept",
        "kept otherwise than in float64",
    )
    table(head, lines)
    print()
    table(("vocabulary", "a random number for", "ms"), draws)
    conclude(args.threads)


if __name__ == "__main__":
    main()
