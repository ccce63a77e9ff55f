"""A checkpoint of a run is compared with the run's checksums wherever it is used."""

import json
import shutil

import jax
import pytest

from selfevo_jax.checkpoint import model_checksum, save_adapters, save_model
from selfevo_jax.config import parse_config
from selfevo_jax.errors import SelfevoError
from selfevo_jax.model import PRESETS, LoraConfig, init_adapters, init_params
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.run.checksums import FILE, Checksums
from selfevo_jax.run.sources import require_unchanged

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run directory with a checkpoint, and with adapters that are added to it."""
    root = tmp_path_factory.mktemp("run")
    (root / "config.yaml").write_text("{}")
    save_model(root / "checkpoints/meta", init_params(TINY, jax.random.key(0)), TINY, {})
    lora = LoraConfig(rank=2, alpha=4.0, targets=("q",))
    adapters = init_adapters(TINY, lora, jax.random.key(1))
    save_adapters(root / "checkpoints/0001", adapters, lora, "beside:meta", TINY, {})
    for name in ("meta", "0001"):
        Checksums(root).adopt(root / "checkpoints" / name)
    return root


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def largest(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def spoil(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["meta", "0001"])
def test_an_unchanged_checkpoint_passes_by_any_path(name, run, monkeypatch) -> None:
    require_unchanged(str(run / "checkpoints" / name))
    monkeypatch.chdir(run / "checkpoints")
    require_unchanged(name)


@pytest.mark.parametrize("name", ["meta", "0001"])
def test_a_changed_weight_is_named_and_so_is_that_of_the_model_under_adapters(name, run) -> None:
    spoil(largest(run / "checkpoints/meta"))
    with pytest.raises(SelfevoError, match="checkpoints/meta/.*: its content has changed since it was finished"):
        require_unchanged(str(run / "checkpoints" / name))


def test_a_file_that_is_gone_is_named(run) -> None:
    largest(run / "checkpoints/meta").unlink()
    with pytest.raises(SelfevoError, match=r"checkpoints/meta/.*: missing"):
        require_unchanged(str(run / "checkpoints/meta"))


def test_a_copy_outside_of_a_run_has_nothing_to_be_compared_with(run, tmp_path) -> None:
    copy = shutil.copytree(run / "checkpoints/meta", tmp_path / "checkpoints" / "meta")
    spoil(largest(copy))
    require_unchanged(str(copy))
    require_unchanged("preset:tiny")


def test_a_run_without_its_checksums_is_not_taken_for_one_that_agrees(run) -> None:
    (run / FILE).unlink()
    with pytest.raises(SelfevoError, match="cannot be compared with what was saved; restore"):
        require_unchanged(str(run / "checkpoints/meta"))


def test_a_changed_checkpoint_is_refused_before_anything_is_measured(run) -> None:
    spoil(largest(run / "checkpoints/0001"))
    source = {"source": str(run / "checkpoints/0001")}
    config = parse_config(
        {"run_dir": str(run / "other"), "model": source, "data": {"stories": {}}, "mesh": {"data": 1}}
    )
    with pytest.raises(SelfevoError, match="its content has changed"):
        open_workbench(config)


def test_adapters_are_refused_where_the_base_has_other_weights_than_the_run_began_with(run, tmp_path) -> None:
    base = tmp_path / "base"
    save_model(base, init_params(TINY, jax.random.key(2)), TINY, {})
    lora = LoraConfig(rank=2, alpha=4.0, targets=("q",))
    adapters = init_adapters(TINY, lora, jax.random.key(1))
    save_adapters(run / "checkpoints/0002", adapters, lora, str(base), TINY, {})
    Checksums(run).adopt(run / "checkpoints/0002")
    (run / "fingerprints.json").write_text(json.dumps({"model": model_checksum(str(base))}))
    require_unchanged(str(run / "checkpoints/0002"))
    spoil(largest(base))
    with pytest.raises(SelfevoError, match="0002: adapters of .*, whose weights are not those that the run began with"):
        require_unchanged(str(run / "checkpoints/0002"))
