"""What the tests of this folder share: quick compiles."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def all_compile_quickly(quick_compiles):
    """In every file of this folder."""
