"""What the tests of this folder share: its path (importlib mode adds none), and quick compiles."""

import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module", autouse=True)
def quick_compiles():
    """These models are tiny and each test compiles some: code that runs slower is ready three times as soon."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
