"""How many threads XLA has for the CPU devices of a process: they decide how a matrix product is divided, and so its
last bit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

THREADS = "NPROC"
"""The variable from which XLA takes the number; by itself it takes the cores, or the process's own devices if more."""
_FORCED = re.compile(r"--xla_force_host_platform_device_count=(\d+)")


def cpu_devices(environ: Mapping[str, str] = os.environ) -> int:
    """CPU devices that this process was told to have; does not start JAX's backend."""
    import jax

    told: int = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    forced = _FORCED.findall(environ.get("XLA_FLAGS", ""))
    return told if told > 0 else int(forced[-1]) if forced else 1


def threads_of_all(devices: Sequence[int], cores: int) -> int | None:
    """Threads of one process that had the devices of all; None to leave it to XLA, where there are no virtual devices.

    With them, processes that share one machine compute what a single one does, to the last bit.
    """
    return max(cores, sum(devices)) if max(devices) > 1 else None
