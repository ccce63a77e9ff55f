"""Settings of the process that a run makes."""

import os
import shutil
import signal
import threading

import jax
import numpy as np
import pytest
from loop_helpers import config
from safetensors.numpy import load_file, save_file

from selfevo_jax import notice
from selfevo_jax.config import parse_config
from selfevo_jax.data.objects import ASSETS
from selfevo_jax.errors import ConfigError, ModelError, Preempted
from selfevo_jax.model import ModelConfig, RopeScaling
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.workbench import check_positions, keep_compiled_programs, open_workbench

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


def test_a_model_with_numbers_that_are_not_finite_is_refused_by_array_and_file(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(ASSETS / "stories", folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "up" in name)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[7] = np.nan
    save_file(tensors, folder / "model.safetensors")
    bench = open_workbench(config(tmp_path / "run", model__source=str(folder)))
    with pytest.raises(ModelError, match=f"{folder}: layers_.*/up/kernel has NaN or infinite numbers"):
        bench.base_params()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_while_the_sampler_is_compiled_waits_for_no_program(tmp_path, monkeypatch, signal_number):
    bench = open_workbench(config(tmp_path))
    compiled = threading.Event()

    def told():
        os.kill(os.getpid(), signal_number)
        compiled.wait()

    monkeypatch.setattr(bench.engine, "compilations", lambda *_, **__: [told, compiled.wait])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with notice.heeded(), pytest.raises((Preempted, KeyboardInterrupt)) as ended:
            bench._compile({}, Reporter(quiet=True))
    finally:
        signal.signal(signal.SIGINT, before)
        compiled.set()
    assert isinstance(ended.value, Preempted) == (signal_number == signal.SIGTERM)
