"""Every test runs on 8 virtual CPU devices, in fp32, with no network and no data outside the repository."""

import gc
import os
import shutil
import tempfile

import hypothesis
import pytest
from quick_compiles import flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = flags(8, os.environ.get("XLA_FLAGS", ""))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
hypothesis.settings.register_profile("untimed", deadline=None)  # no test fails because a machine is busy
hypothesis.settings.load_profile("untimed")
# what a process of these tests frees it uses again: to map and zero those pages anew takes a tenth of their time
os.environ |= {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
# a program is compiled once for all processes of all tests; nothing is read from the home folder, nothing left there
OWN = "SELFEVO_TESTS_PROGRAMS" not in os.environ
PROGRAMS = os.environ.setdefault("SELFEVO_TESTS_PROGRAMS", tempfile.mkdtemp(prefix="selfevo-programs-") if OWN else "")
os.environ["JAX_ENABLE_COMPILATION_CACHE"], os.environ["JAX_COMPILATION_CACHE_DIR"] = "true", PROGRAMS
os.environ["XDG_CACHE_HOME"] = os.path.join(PROGRAMS, "cache")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


def pytest_collection_modifyitems(items):
    """Files with slow tests first: a long one that a process begins last would keep the other waiting."""
    slow = {item.path for item in items if {"slow", "tpu_compiler"} & set(item.keywords)}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """What was imported stays: looking through it again and again for garbage takes one second in twenty-five."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def pytest_unconfigure(config):
    if OWN:
        shutil.rmtree(PROGRAMS, ignore_errors=True)


@pytest.fixture(scope="module")
def quick_compiles():
    """For tiny models, of which each test compiles some: code that runs slower is ready three times as soon."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
