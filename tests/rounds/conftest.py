"""One finished run."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds; tests that change it copy it first."""
    from loop_helpers import config, run

    root = tmp_path_factory.mktemp("loop") / "run"
    run(config(root, track="toys:Diary"))
    return root
