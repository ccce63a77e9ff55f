"""Losses and gradients of objectives are TRL's, where it is installed."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("trl")
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "objectives_against_trl.py"


def test_losses_and_gradients_are_those_of_trl(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("objectives_against_trl", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.compare(tmp_path)
    assert {"dpo", "ipo", "kto", "grpo, of sequences"} <= {name for name, *_ in found}
    for name, theirs, ours, apart, _ in found:
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4), name
        assert apart < 1e-4, name
