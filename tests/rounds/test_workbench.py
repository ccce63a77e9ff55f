"""Settings of the process that a run makes."""

import jax
import pytest

from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import ModelConfig, RopeScaling
from selfevo_jax.rounds.workbench import check_positions, keep_compiled_programs

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


@pytest.mark.parametrize("key", ["sampling.cache_length", "meta.length", "learn.length"])
@pytest.mark.parametrize(
    ("scaling", "most"),
    [(None, 512), (RopeScaling("linear", 2.0), 1024), (RopeScaling("llama3", 8.0, 1, 4, 128), 1024)],
)
def test_a_length_beyond_the_models_positions_is_refused_with_its_key(key, scaling, most):
    model = ModelConfig(64, 16, 1, 2, 2, 8, 32, max_position=512, rope_scaling=scaling)
    section, _, name = key.partition(".")
    tree = {"run_dir": "x", "model": {"source": "a"}, "data": {"stories": {}}}
    check_positions(parse_config(tree | {section: {name: most}}), model)
    with pytest.raises(ConfigError, match=f"{key}: found {most + 1}, but the model has {most} positions"):
        check_positions(parse_config(tree | {section: {name: most + 1}}), model)
