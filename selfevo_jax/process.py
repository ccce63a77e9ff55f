"""What a process settles with its machine before JAX starts, after compiling, and at its end. Imports no JAX."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import io
import os
import signal
import sys
from pathlib import Path

GPU_MEMORY = "0.92"
"""The share of a GPU's memory that JAX takes at its start, unless the environment says another; 0.75 alone."""
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*", "/dev/kfd")
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of glibc's malloc.h

_kept_by: list[ctypes.CDLL] = []
"""The C library that keeps what is freed."""


def prepare() -> None:
    """Called once, before anything imports JAX; what the environment says already stands."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", GPU_MEMORY)
    keep_freed_memory()
    print_what_can_be_printed()


def print_what_can_be_printed() -> None:
    """Has a sign that the terminal's encoding lacks (Latin-1 has no arrow) shown as "?": no run ends for it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def keep_freed_memory() -> bool:
    """Has glibc keep what is freed for the next allocation, where JAX is to run on a CPU; says whether it does.

    XLA on a CPU allocates the temporaries of each call anew, and glibc gets large ones from the kernel and gives them
    back each time: page after page is mapped and zeroed, 748,000 of them in a training step of SmolLM2-135M with 1,536
    tokens (benchmarks/training.py). It takes one arena for all threads, since the others cannot hold large blocks,
    so it must come before there are threads; and the process keeps its size, but for `give_back_freed_memory`.

    Nothing is changed where the environment sets malloc's behaviour (MALLOC_*, GLIBC_TUNABLES), where there is an
    accelerator, unless JAX_PLATFORMS is cpu, and where the C library is another.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    on_cpu = os.environ.get("JAX_PLATFORMS") == "cpu" or not any(map(glob.glob, _ACCELERATORS))
    if sys.platform != "linux" or chosen or not on_cpu:
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    if not all([libc.mallopt(_ARENA_MAX, 1), libc.mallopt(_MMAP_MAX, 0), libc.mallopt(_TRIM_THRESHOLD, -1)]):
        return False
    _kept_by.append(libc)
    return True


def give_back_freed_memory() -> None:
    """Gives the kernel what is kept: after compiling, which takes much memory once."""
    for libc in _kept_by:
        libc.malloc_trim(0)


def cache_folder(name: str) -> Path:
    """Where this machine's user keeps what can be made again: in ~/.cache/selfevo_jax, or under XDG_CACHE_HOME."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "selfevo_jax" / name


def end_at_once_on_second_interrupt() -> None:
    """Ctrl-C ends what runs in order; the second one ends this process at once, and without a traceback."""

    def interrupt(number: int, _: object) -> None:
        signal.signal(number, lambda *_: os._exit(128 + number))
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def leave_now(code: int) -> None:
    """Ends this process at once: no clean-up that could wait for others."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
