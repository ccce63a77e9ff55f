"""A key, and tries that follow each other at once; what the server asks to wait is waited for all the same."""

import pytest
from annotate_helpers import KEY

from selfevo_jax.judges import asking, endpoint


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(endpoint, "Pace", lambda *a, **k: asking.Pace(*a, **k, first_wait=0.005))
