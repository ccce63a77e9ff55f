"""A workbench whose prompts are the bare text."""

import pytest


@pytest.fixture(scope="session")
def bare():
    """A workbench of the shipped model, and its parameters."""
    from harness_helpers import TREE

    from selfevo_jax.config import parse_config
    from selfevo_jax.rounds.workbench import open_workbench

    bench = open_workbench(parse_config(TREE | {"format": {"respond": "{prompt}"}}))
    bench.engine.prepared = True  # each program is compiled when it is used, and many are not
    return bench, bench.engine.place(bench.base_params())
