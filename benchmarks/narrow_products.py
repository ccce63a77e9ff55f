"""Products of a few tokens with the matrices of a feed-forward: XLA with and without YNNPACK, and torch, on a CPU.

    python benchmarks/narrow_products.py        # torch where it is installed

Twelve layers of SmolLM2's shape, fp32, in turns; the least of 15 calls counts. The choice of
`selfevo_jax.sample.programs` rests on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sampling_common import conclude, table, use_threads

from selfevo_jax.sample.programs import narrow_options

LAYERS, WIDTH, INNER = 12, 576, 1536


def feed_forward(x: Any, layers: Any) -> Any:
    for gate, up, down in layers:
        x = ((x @ gate) * (x @ up)) @ down
    return x


def in_torch(layers: Any, x: np.ndarray) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(2)
    held, tokens = [[torch.from_numpy(w) for w in layer] for layer in layers], torch.from_numpy(x)
    return lambda: feed_forward(tokens, held)


def main() -> None:
    use_threads(2)
    rng = np.random.default_rng(0)
    shapes = [(WIDTH, INNER), (WIDTH, INNER), (INNER, WIDTH)]
    layers = [[0.02 * rng.normal(size=s).astype(np.float32) for s in shapes] for _ in range(LAYERS)]
    on_device, rows = jax.tree.map(jnp.asarray, layers), []
    for n in (1, 4, 8, 16, 24, 32, 48, 64, 128):
        x = np.ones((n, WIDTH), np.float32)
        runs: dict[str, Callable[[], Any]] = {}
        for name, options in (("with", {}), ("without", narrow_options())):
            program: Any = jax.jit(feed_forward, compiler_options=options).lower(x, on_device).compile()
            runs[name] = lambda program=program, x=x: program(x, on_device).block_until_ready()
        try:
            runs["torch"] = in_torch(layers, x)
        except ImportError:
            runs["torch"] = lambda: None
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(15):
            for name, run in runs.items():
                begin = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - begin)
        rows.append([n, *(f"{1e3 * min(found):.1f}" for found in seconds.values())])
    table(["tokens", "XLA with YNNPACK (ms)", "without", "torch"], rows)
    conclude(2)


if __name__ == "__main__":
    main()
