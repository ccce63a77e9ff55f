"""The checksum of a model: another weight is another checksum, another folder is not."""

import json
import shutil

import jax
import numpy as np
import pytest
from random_params import random_params

from selfevo_jax.checkpoint import export_huggingface, model_checksum, save_adapters, save_model, save_safetensors
from selfevo_jax.errors import ModelError
from selfevo_jax.model import PRESETS, LoraConfig, init_adapters

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same weights in a Hugging Face folder of several files, as shipped, and as our own checkpoint."""
    root = tmp_path_factory.mktemp("models")
    params = random_params(TINY)
    export_huggingface(params, TINY, {}, root / "hf", max_shard_bytes=100_000)
    save_safetensors(root / "shipped", params, TINY, {})
    save_model(root / "ours", params, TINY, {})
    lora = LoraConfig(rank=2, alpha=4.0, targets=("q",))
    adapters = init_adapters(TINY, lora, jax.random.key(1))
    save_adapters(root / "adapters", adapters, lora, "beside:ours", TINY, {})
    return root


KINDS = ("hf", "shipped", "ours", "adapters")


def weights(folder):
    """The largest file of a model, which holds weights."""
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_checksum_is_that_of_the_content_wherever_it_is(kind, made, tmp_path) -> None:
    copy = shutil.copytree(made, tmp_path / "copy")
    before = model_checksum(str(made / kind))
    assert model_checksum(str(copy / kind)) == before
    (copy / kind / "notes.txt").write_text("not read")
    assert model_checksum(str(copy / kind)) == before


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_byte_of_a_weight_changes_the_checksum(kind, made, tmp_path) -> None:
    copy = shutil.copytree(made, tmp_path / "copy")
    file = weights(copy / kind)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert model_checksum(str(copy / kind)) != model_checksum(str(made / kind))


def test_the_model_under_adapters_counts_as_well(made, tmp_path) -> None:
    copy = shutil.copytree(made, tmp_path / "copy")
    file = weights(copy / "ours")
    file.write_bytes(bytes(np.frombuffer(file.read_bytes(), np.uint8) ^ 1))
    assert model_checksum(str(copy / "adapters")) != model_checksum(str(made / "adapters"))


def test_another_shape_is_another_checksum(made, tmp_path) -> None:
    copy = shutil.copytree(made / "hf", tmp_path / "hf")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rope_parameters": None, "rope_theta": 5e5}))
    assert model_checksum(str(copy)) != model_checksum(str(made / "hf"))
    assert model_checksum("preset:tiny") != model_checksum("preset:smollm2-135m")


def test_a_model_that_is_not_there_has_no_checksum(tmp_path) -> None:
    with pytest.raises(ModelError, match="nothing there"):
        model_checksum(str(tmp_path / "none"))


def test_the_name_of_a_hubs_model_is_refused_with_the_source_that_it_is() -> None:
    with pytest.raises(ModelError, match=r"of the Hugging Face hub it is hub:acme/none\)"):
        model_checksum("acme/none")
    with pytest.raises(ModelError, match=r"\(random weights\)$"):
        model_checksum("./none")
