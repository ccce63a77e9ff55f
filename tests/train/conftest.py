"""What the tests of this folder share: its path (importlib mode adds none), and quick compiles."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module", autouse=True)
def all_compile_quickly(quick_compiles):
    """In every file of this folder."""
