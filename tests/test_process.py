"""What a process settles with its machine, in real processes."""

import os
import subprocess
import sys

import pytest

from selfevo_jax import process

SCRIPT = """
import ctypes, resource, threading
from selfevo_jax.process import give_back_freed_memory, keep_freed_memory
kept = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def use():
    place = libc.malloc(64 << 20)
    ctypes.memset(place, 1, 64 << 20)
    libc.free(place)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
again = faults()
give_back_freed_memory()
print(kept, again, faults())
"""


def freed(**environ: str) -> tuple[bool, int, int]:
    """Whether freed memory is kept, and the page faults of using 64 MiB in a thread a second time, and once more after
    it was given back."""
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "JAX_PLATFORMS"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=rest | environ, capture_output=True, text=True, check=True, timeout=60
    )
    kept, again, after = done.stdout.split()
    return kept == "True", int(again), int(after)


needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or os.confstr("CS_GNU_LIBC_VERSION") is None, reason="needs glibc on Linux"
)


@needs_glibc
def test_what_a_thread_frees_is_used_again_without_a_page_fault() -> None:
    fewest = (64 << 20) // (2 << 20)  # were all pages huge ones
    kept, again, after = freed(JAX_PLATFORMS="cpu")
    assert kept
    assert again < fewest <= after
    assert freed(JAX_PLATFORMS="cpu", MALLOC_ARENA_MAX="4")[1] >= fewest


@needs_glibc
@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_"])
def test_what_the_environment_says_of_malloc_stands(name: str) -> None:
    assert not freed(JAX_PLATFORMS="cpu", **{name: "2"})[0]


def test_nothing_is_changed_where_there_is_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_ACCELERATORS", ("/dev/null",))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert not process.keep_freed_memory()


def test_a_sign_that_the_terminal_lacks_ends_nothing() -> None:
    code = r"from selfevo_jax import process; process.prepare(); print('a \u2192 b \xb1 1 \ud800')"
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environ)
    assert done.stdout == b"a ? b \xb1 1 ?\n"
