"""Models by their names on the Hugging Face hub: from a server on this machine, and from a cache without one."""

import sys

import fake_hub
import jax
import numpy as np
import pytest
from random_params import random_params

from selfevo_jax.checkpoint import export_huggingface, locate, model_checksum, open_model
from selfevo_jax.checkpoint.source import ASSETS
from selfevo_jax.config import parse_config
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig
from selfevo_jax.text.tokenizer import load_tokenizer

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny model as a repository of the hub: name -> content, and its parameters."""
    tokenizer = load_tokenizer(ASSETS / "stories")
    config = ModelConfig(tokenizer.vocab_size, 8, 1, 2, 1, 4, 8, max_position=64)
    folder = tmp_path_factory.mktemp("made") / "model"
    export_huggingface(random_params(config), config, tokenizer, folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}, random_params(config)


def test_a_model_is_fetched_from_the_hub_and_opened_again_without_it(made, tmp_path, monkeypatch):
    files, params = made
    more = {"onnx/model.json": b"{}", "consolidated.safetensors": b"another layout", "pytorch_model.bin": b"x"}
    with fake_hub.serving({("models", "acme/tiny"): {"main": files | more, "v1": files}}) as server:
        fake_hub.use(monkeypatch, tmp_path, server)
        found = open_model("hub:acme/tiny")
        asked = " ".join(server.asked)
        assert not any(name in asked for name in more)
        assert model_checksum("hub:acme/tiny") == model_checksum("hub:acme/tiny@v1")
        with pytest.raises(ModelError, match="the model 'acme/tiny' has no revision 'v2'"):
            locate("hub:acme/tiny@v2")
        with pytest.raises(ModelError, match=r"hub:acme/none: the hub shows no model 'acme/none'.*hf auth login"):
            locate("hub:acme/none")
    fake_hub.use(monkeypatch, tmp_path)
    again = open_model("hub:acme/tiny")
    assert again.config == found.config
    for loaded in (found.load(None, "float32"), again.load(None, "float32")):
        jax.tree.map(np.testing.assert_array_equal, loaded, params)
    with pytest.raises(ModelError, match=r"hub:acme/none: the cache .*the hub is not reached.*HF_HUB_OFFLINE"):
        locate("hub:acme/none")


def test_a_tokenizer_of_the_hub_is_fetched_without_the_weights_beside_it(made, tmp_path, monkeypatch):
    files, _ = made
    with fake_hub.serving({("models", "acme/tiny"): {"main": files}}) as server:
        fake_hub.use(monkeypatch, tmp_path, server)
        tokenizer = open_model("preset:tiny", "hub:acme/tiny").tokenizer
        assert tokenizer.encode("Mia has 7 shells.") == load_tokenizer(ASSETS / "stories").encode("Mia has 7 shells.")
        assert not any("safetensors" in name for name in server.asked)


def test_a_gguf_file_is_named_behind_its_repository(tmp_path, monkeypatch):
    with fake_hub.serving({("models", "acme/small"): {"main": {"a-Q4_K_M.gguf": b"one", "b.gguf": b"two"}}}) as server:
        fake_hub.use(monkeypatch, tmp_path, server)
        assert locate("hub:acme/small/b.gguf").read_bytes() == b"two"
        with pytest.raises(ModelError, match=r"acme/small: has no config.json; name one of its GGUF files: a-Q4_K_M"):
            locate("hub:acme/small")
        with pytest.raises(ModelError, match=r"no such file in the model; name one of its GGUF files"):
            locate("hub:acme/small/c.gguf")


@pytest.mark.parametrize("source", ["hub:tiny", "hub:acme/tiny/onnx", "hub:acme/..", "hub:", "hub:acme/tiny@"])
def test_a_name_of_another_form_is_refused_with_the_forms_there_are(source):
    with pytest.raises(ModelError, match="expected hub:OWNER/NAME|no revision behind '@'"):
        locate(source)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"hub:acme/tiny: needs the package huggingface-hub; .*pip install .*\[hub\]"):
        locate("hub:acme/tiny")


def test_a_revision_in_a_config_is_not_taken_for_a_secret():
    data = {"prompts": "hf:acme/sums/train@v1", "qa": "hf:acme/sums/train@v1"}
    tree = {"run_dir": "x", "model": {"source": "hub:acme/tiny@v1", "tokenizer": "hub:acme/tiny@v1"}, "data": data}
    assert parse_config(tree).model.source == "hub:acme/tiny@v1"
