"""What the command says before jax starts."""

import importlib.util

import pytest
import yaml
from plan_helpers import TINY
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.errors import SelfevoError
from selfevo_jax.plan import chips


def test_a_plan_without_a_topology_says_how_to_name_one(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    done = CliRunner().invoke(app, ["plan", str(file)])
    assert isinstance(done.exception, SelfevoError)
    assert "--topology v5e:4x4" in str(done.exception)


def test_help_shows_examples():
    shown = CliRunner().invoke(app, ["plan", "--help"], env={"COLUMNS": "200"}).output
    assert "selfevo plan mine.yaml --topology v5e:4x4 --topology v5p:2x2x4" in shown
    assert "--search" in shown


def test_without_the_compiler_the_remedy_is_named(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else real(name))
    with pytest.raises(SelfevoError, match="pip install libtpu"):
        chips.prepare_compiler()


@pytest.mark.parametrize("name", ["v9:2x2", "v5e", "v5e:2", "v5e:2x2x2x2", "v5e:2x2*x", "h100:2x2"])
def test_a_name_that_is_no_topology_lists_the_chips(name):
    with pytest.raises(SelfevoError, match="chips: v4, v5e, v5p, v6e, tpu7x"):
        chips.find_topology(name)
