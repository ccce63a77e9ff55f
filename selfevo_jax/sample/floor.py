"""The floor of a decode step: what it must compute and read, against what this machine was measured to do."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax.model import ModelConfig, attended_positions, used_params
from selfevo_jax.sample.stats import EngineStats


@dataclass(frozen=True)
class StepCost:
    """Of one decode step over all devices."""

    flops: float
    bytes: float
    """Read: every parameter once a copy of the model, and the cached positions that the rows attend to."""


def step_cost(
    config: ModelConfig, rows: float, context: float, weight_bytes: int, position_bytes: float, copies: int = 1
) -> StepCost:
    """A decode step of `rows` tokens that read `context` cached positions each.

    Args:
      config: the decoder's shape; two FLOPs a parameter and token, four a head dimension and cached position.
      weight_bytes: bytes of one copy of the parameters.
      position_bytes: bytes of one cached position over all layers, keys and values.
      copies: how often the parameters lie on the mesh (each copy is read).
    """
    attention = 4.0 * config.n_heads * config.head_dim * attended_positions(config, context)
    looked_up = 0 if config.tie_embeddings else config.vocab_size * config.d_model
    return StepCost(
        flops=rows * (2.0 * (used_params(config) - looked_up) + attention),
        bytes=float(weight_bytes) * copies + rows * context * position_bytes,
    )


@dataclass(frozen=True)
class MachineRates:
    """What one device was measured to do; on a CPU all cores together."""

    flops_per_second: float
    bytes_per_second: float


@functools.cache
def measure_rates(device: jax.Device, dtype: str) -> MachineRates:
    """The best of a few square matrix products in `dtype`, and of a few sums over an array larger than the caches."""
    size, read = (1024, 1 << 26) if device.platform == "cpu" else (8192, 1 << 30)

    def best(work: Callable[..., jax.Array], *args: Any) -> float:
        compiled = jax.jit(work)
        compiled(*args).block_until_ready()
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            compiled(*args).block_until_ready()
            seconds.append(time.perf_counter() - begin)
        return min(seconds)

    square = jax.device_put(jnp.ones((size, size), dtype), device)
    product = best(jnp.matmul, square, square)
    long = jax.device_put(jnp.ones((64, read // 256), jnp.float32), device)
    return MachineRates(2.0 * size**3 / product, read / best(lambda x: jnp.max(x, axis=1), long))


def decode_floor(
    config: ModelConfig,
    stats: EngineStats,
    devices: list[jax.Device],
    dtype: str,
    *,
    weight_bytes: int,
    position_bytes: float,
    copies: int = 1,
) -> dict[str, float]:
    """A run's mean decode step beside its floor, as plain JSON values; empty when nothing was decoded.

    Of the steps that check no drafts.
    """
    steps, busy = stats.steps - stats.draft_steps, stats.busy - stats.draft_busy
    if not steps or not busy:
        return {}
    rates = measure_rates(jax.local_devices()[0], dtype)
    rows, context = busy / steps, stats.context / busy
    cost = step_cost(config, rows, context, weight_bytes, position_bytes, copies)
    n = 1 if devices[0].platform == "cpu" else len(devices)  # virtual devices share the cores
    floor = max(cost.flops / (n * rates.flops_per_second), cost.bytes / (n * rates.bytes_per_second))
    step = (stats.decode_seconds - stats.draft_seconds) / steps
    return {
        "rows": rows,
        "context": context,
        "step_flops": cost.flops,
        "step_bytes": cost.bytes,
        "flops_per_second": n * rates.flops_per_second,
        "bytes_per_second": n * rates.bytes_per_second,
        "step_seconds": step,
        "floor_seconds": floor,
        "share": floor / step if step > 0 else 0.0,
    }
