"""Adapters in PEFT's files: the package peft computes with them what we do, and what is not plain LoRA is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from selfevo_jax.checkpoint import base_of, export_huggingface, model_checksum, open_weights
from selfevo_jax.checkpoint.peft import PEFT, PEFT_WEIGHTS, base_name, read_peft, write_peft
from selfevo_jax.checkpoint.weights import flatten
from selfevo_jax.errors import ModelError
from selfevo_jax.model import LoraConfig, ModelConfig, init_adapters, merge_adapters

CONFIG = ModelConfig(96, 32, 2, 4, 2, 12, 48, max_position=64, tie_embeddings=False, qk_norm=True)
LORA = LoraConfig(rank=3, alpha=5.0, targets=("q", "v", "o", "down"))


@pytest.fixture(scope="module")
def parts():
    """The parameters of a model, and adapters whose products are not zero."""
    drawn = init_adapters(CONFIG, LORA, jax.random.key(1))
    keys = iter(jax.random.split(jax.random.key(2), 100))
    adapters = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), drawn)
    return random_params(CONFIG), adapters


@pytest.fixture
def folder(parts, tmp_path):
    params, adapters = parts
    out = tmp_path / "adapters"
    out.mkdir()
    export_huggingface(params, CONFIG, {}, tmp_path / "model")
    write_peft(out, adapters, LORA, CONFIG, str(tmp_path / "model"))
    return out


def test_adapters_of_peft_are_merged_with_their_base_as_our_own(folder, parts):
    wanted = flatten(merge_adapters(*parts, LORA))
    config, load, _ = open_weights(str(folder))
    assert config == CONFIG
    for name, leaf in flatten(load(None, jnp.float32)).items():
        np.testing.assert_allclose(leaf, wanted[name], atol=1e-6, err_msg=name)


def test_a_base_inside_the_folder_of_the_adapters_goes_before_its_name(folder):
    (folder.parent / "model").rename(folder / "base")
    assert read_peft(folder) == (LORA, str(folder / "base"))


def test_a_base_of_the_hub_keeps_its_name_and_revision(folder, tmp_path):
    assert base_name(str(tmp_path), tmp_path) == (str(tmp_path.resolve()), None)
    file, described = folder / PEFT, json.loads((folder / PEFT).read_text())
    assert (described["base_model_name_or_path"], described["revision"]) == (str(folder.parent / "model"), None)
    for source in ("hub:owner/name", "hub:owner/name@v2"):
        name, revision = base_name(source, tmp_path / "cached")
        changes = {"base_model_name_or_path": name, "revision": revision, "init_lora_weights": "gaussian"}
        file.write_text(json.dumps(described | changes))
        assert (name, read_peft(folder)[1]) == ("owner/name", source)


def test_the_checksum_of_adapters_is_that_of_their_base_too(folder):
    before = model_checksum(str(folder))
    assert model_checksum(str(folder)) == before
    weights = folder.parent / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_checksum(str(folder)) != before
    assert base_of(folder) == str(folder.parent / "model")


def test_the_package_peft_adds_the_same_products(folder, parts):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = transformers.AutoModelForCausalLM.from_pretrained(folder.parent / "model")
    merged = peft.PeftModel.from_pretrained(base, folder).merge_and_unload()
    merged.save_pretrained(folder.parent / "merged")
    _, load, _ = open_weights(str(folder.parent / "merged"))
    wanted = flatten(merge_adapters(*parts, LORA))
    for name, leaf in flatten(load(None, jnp.float32)).items():
        np.testing.assert_allclose(leaf, wanted[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', supported is LORA"),
        ({"use_dora": True}, "use_dora is True"),
        ({"use_rslora": True}, "use_rslora is True"),
        ({"bias": "all"}, "bias is 'all', supported is none"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"of_tomorrow": 1}, "of_tomorrow"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4', .* leave the base as it is"),
        ({"r": 4}, "has shape"),
        ({"r": None}, "r is missing"),
        ({"base_model_name_or_path": ""}, "base_model_name_or_path"),
        ({"base_model_name_or_path": "./nowhere"}, "nowhere: nothing there"),
    ],
)
def test_what_is_not_plain_lora_on_the_layers_is_refused_by_its_key(folder, change, match):
    file = folder / PEFT
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=match):
        open_weights(str(folder))[1](None, jnp.float32)


def test_adapters_without_their_numbers_or_beside_a_model_are_refused(folder):
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="a model and adapters of PEFT are in one folder"):
        open_weights(str(folder))
    (folder / "config.json").unlink()
    (folder / PEFT_WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: missing"):
        open_weights(str(folder))
