"""Settings of the process that a run makes."""

import jax
import pytest

from selfevo_jax.rounds.workbench import keep_compiled_programs

KEY = "jax_compilation_cache_dir"


@pytest.mark.parametrize("given", [None, "/elsewhere"])
def test_compiled_programs_are_kept_in_the_users_cache_or_where_jax_was_told(given, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.values[KEY]
    try:
        jax.config.update(KEY, given)
        keep_compiled_programs()
        assert jax.config.values[KEY] == (given or str(tmp_path / "selfevo_jax" / "xla"))
    finally:
        jax.config.update(KEY, before)
