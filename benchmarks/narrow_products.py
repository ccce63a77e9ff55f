"""What a step of few tokens is made of, on a CPU: products with weights, and attention, by XLA and by our kernels in C.

    python benchmarks/narrow_products.py        # torch where it is installed

Products of a few tokens with the matrices of a feed-forward (twelve layers of SmolLM2's shape), and one query of each
of 32 slots to a cache (thirty layers), fp32, in turns; the least of 15 calls counts. XLA leaves such work to YNNPACK,
or not; `selfevo_jax.sample.programs` chooses for machines without a C compiler: "chosen" are its options.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sampling_common import conclude, table, use_threads

from selfevo_jax.model.attention import Part, Scoring, attend
from selfevo_jax.native import calls
from selfevo_jax.sample.programs import narrow_options, native_options

LAYERS, WIDTH, INNER = 12, 576, 1536
CACHED_LAYERS, SLOTS, HEADS, KV_HEADS, HEAD_DIM = 30, 32, 9, 3, 64
KINDS = ("all YNNPACK", "no YNNPACK", "chosen")


def feed_forward(x: Any, layers: Any) -> Any:
    for gate, up, down in layers:
        x = ((x @ gate) * (x @ up)) @ down
    return x


def attention(q: Any, layers: Any, mask: Any) -> Any:
    scoring = Scoring(HEAD_DIM**-0.5)
    for k, v in layers:
        q = q + attend(q, [Part(functools.partial(tuple, (k, v)), mask)], scoring)
    return q


def feed_forward_in_c(x: Any, layers: Any) -> Any:
    for gate, up, down in layers:
        a, b = calls.products(x, [gate, up], [INNER, INNER])
        (x,) = calls.products(a * b, [down], [WIDTH])
    return x


def attention_in_c(q: Any, layers: Any, mask: Any) -> Any:
    last = jnp.full(q.shape[0], mask.shape[2] - 1, jnp.int32)
    for kept in layers:
        q = q + calls.attention(q[:, 0], last, [tuple(kept)], scale=HEAD_DIM**-0.5)[:, None]
    return q


def in_torch(layers: Any, x: np.ndarray) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(2)
    held, tokens = [[torch.from_numpy(w) for w in layer] for layer in layers], torch.from_numpy(x)
    return lambda: feed_forward(tokens, held)


def run(work: Callable[..., Any], options: dict[str, str], *args: Any) -> Callable[[], Any]:
    program: Any = jax.jit(work, compiler_options=options).lower(*args).compile()
    return lambda: jax.block_until_ready(program(*args))


def compiled(work: Callable[..., Any], *args: Any) -> dict[str, Callable[[], Any]]:
    """The work by each of KINDS."""

    chosen = ({}, {"xla_cpu_experimental_ynn_fusion_type": ""}, narrow_options())
    return {name: run(work, options, *args) for name, options in zip(KINDS, chosen, strict=True)}


def least(runs: dict[str, Callable[[], Any]]) -> list[str]:
    """Milliseconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(15):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return [f"{1e3 * min(found):.1f}" for found in seconds.values()]


def main() -> None:
    use_threads(2)
    rng = np.random.default_rng(0)
    shapes = [(WIDTH, INNER), (WIDTH, INNER), (INNER, WIDTH)]
    layers = [[0.02 * rng.normal(size=s).astype(np.float32) for s in shapes] for _ in range(LAYERS)]
    on_device, rows = jax.tree.map(jnp.asarray, layers), []
    in_panels = jax.tree.map(calls.panels, on_device)
    for n in (1, 4, 8, 16, 24, 32, 48, 64, 128):
        x = np.ones((n, WIDTH), np.float32)
        runs = compiled(feed_forward, jnp.asarray(x), on_device)
        if calls.available():
            runs["in C"] = run(feed_forward_in_c, native_options(), jnp.asarray(x), in_panels)
        with contextlib.suppress(ImportError):
            runs["torch"] = in_torch(layers, x)
        rows.append([n, *least(runs)])
    table(["tokens", *(f"{name} (ms)" for name in runs)], rows)
    print()
    rows = []
    for n in (192, 384, 768):
        kept = (SLOTS, KV_HEADS, n, HEAD_DIM)
        made = [[jnp.asarray(rng.normal(size=kept), jnp.float32) for _ in range(2)] for _ in range(CACHED_LAYERS)]
        q, mask = jnp.ones((SLOTS, 1, HEADS, HEAD_DIM), jnp.float32), jnp.ones((1, 1, n), bool)
        runs = compiled(attention, q, made, mask)
        if calls.available():
            runs["in C"] = run(attention_in_c, native_options(), q, made, mask)
        rows.append([n, *least(runs)])
    table(["positions", *(f"{name} (ms)" for name in runs)], rows)
    conclude(2)


if __name__ == "__main__":
    main()
