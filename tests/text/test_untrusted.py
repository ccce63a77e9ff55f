"""Tokenizers from strangers: whatever is wrong with one is a single clear error that names the file, found soon."""

import base64
import json
import os
import struct

import pytest
from sentencepiece import sentencepiece_model_pb2

from selfevo_jax.errors import ModelError
from selfevo_jax.text import FormatSection, PromptFormat, load_tokenizer

DEEP = "[" * 100_000


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_tokenizer(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert "\n" not in str(caught.value)


def read_or_refused(folder):
    try:
        load_tokenizer(folder)
    except ModelError as error:
        found = str(error)
    else:
        return
    assert str(folder) in found


def copied(folders, name, folder):
    for file in folders[name].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def changed(folder, **changes):
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("id", [4294967295, 100_000])
def test_an_id_far_past_the_vocabulary_is_refused(id, folders, tmp_path):
    copied(folders, "metaspace", tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    model["vocab"]["<far>"] = id
    refused(changed(tmp_path, model=model), f"tokens, but one has id {id}")


def test_a_control_token_past_the_vocabulary_is_refused(folders, tmp_path):
    copied(folders, "chatml", tmp_path)
    added = json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"]
    refused(changed(tmp_path, added_tokens=[*added, {**added[0], "content": "<far>", "id": 10**9}]), "<far>|tokenizer")


CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff\xff\xff\x7f").decode()}


@pytest.mark.parametrize(
    "changes",
    [
        {"added_tokens": None},
        {"added_tokens": [{"id": 0}]},
        {"normalizer": CHARSMAP},
        {"normalizer": {**CHARSMAP, "precompiled_charsmap": base64.b64encode(b"\x04\0\0\0" + b"\xff" * 8).decode()}},
        {"decoder": {"type": "Replace", "pattern": {"Regex": "("}, "content": " "}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}},
        {"model": {"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]]}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": []}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?"}, "behavior": "Isolated", "invert": False}},
        {"post_processor": {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}},
    ],
)
@pytest.mark.parametrize("name", ["metaspace", "chatml"])
def test_a_malformed_tokenizer_json_is_read_or_refused_but_never_breaks(name, changes, folders, tmp_path):
    changed(copied(folders, name, tmp_path), **changes)
    read_or_refused(tmp_path)


def test_a_panic_of_the_library_is_an_error_like_any_other(folders, tmp_path):
    copied(folders, "chatml", tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    refused(changed(tmp_path, model={**model, "continuing_subword_prefix": "#" * 50}), "PanicException")


def test_a_byte_token_that_is_none_is_refused(folders, tmp_path):
    copied(folders, "metaspace", tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    model["vocab"]["<0xZZ>"] = len(model["vocab"])
    refused(changed(tmp_path, model=model), "not a readable tokenizer")


def test_a_byte_piece_that_is_none_is_refused(folders, tmp_path):
    copied(folders, "sp_bpe", tmp_path)
    proto = sentencepiece_model_pb2.ModelProto.FromString((tmp_path / "tokenizer.model").read_bytes())
    proto.pieces[10].piece = "<0xZZ>"
    (tmp_path / "tokenizer.model").write_bytes(proto.SerializeToString())
    refused(tmp_path, "tokenizer|SentencePiece")


@pytest.mark.parametrize("value", ["2", ["2"], [[2]], {"id": 2}, 2.5, True])
def test_an_end_that_is_no_id_is_refused(value, folders, tmp_path):
    copied(folders, "chatml", tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    refused(tmp_path, r"generation_config\.json: eos_token_id is no token id")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [DEEP, "[]", "{"])
def test_files_that_are_no_json_object_are_refused(file, content, folders, tmp_path):
    (copied(folders, "chatml", tmp_path) / file).write_text(content)
    refused(tmp_path, file)


def test_a_template_that_is_no_text_is_refused(folders, tmp_path):
    (copied(folders, "no_system", tmp_path) / "chat_template.jinja").write_bytes(b"\xff\xfe")
    refused(tmp_path, r"chat_template\.jinja: not UTF-8")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_large_files_are_not_read_and_pipes_not_waited_for(file, folders, tmp_path):
    path = copied(folders, "no_system", tmp_path) / file
    with path.open("r+b") as opened:
        opened.truncate(1 << 40)
    refused(tmp_path, "at most")
    path.unlink()
    os.mkfifo(path)
    if file == "tokenizer.json":
        refused(tmp_path, "no tokenizer in this folder")
    else:
        load_tokenizer(tmp_path)  # as though it were not there


def test_a_template_that_takes_all_memory_is_refused_with_the_format(folders, tmp_path):
    copied(folders, "no_system", tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ 'x'.ljust(10 ** 12) }}")
    with pytest.raises(ModelError, match="too much memory"):
        PromptFormat(FormatSection(kind="chat"), load_tokenizer(tmp_path))


@pytest.mark.parametrize("name", ["chatml", "sp_bpe"])
def test_no_credential_or_code_of_a_tokenizer_is_copied_on(name, folders, tmp_path):
    file = copied(folders, name, tmp_path) / "tokenizer_config.json"
    secret = {
        "token": "hf_x",
        "use_auth_token": "hf_x",
        "auto_map": {"AutoTokenizer": "x.Y"},
        "name_or_path": "/home/x",
    }
    kept = {"clean_up_tokenization_spaces": True, "model_max_length": 99, "padding_side": "left"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **secret, **kept}))
    written = json.loads(load_tokenizer(tmp_path).files()["tokenizer_config.json"])
    assert not set(secret) & set(written)
    assert kept.items() <= written.items()


@pytest.mark.parametrize("count", [2**62, 20_000_000])
def test_a_gguf_header_that_counts_without_end_is_refused(count, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, count) + bytes(64))
    refused(tmp_path, "malformed GGUF")


@pytest.mark.parametrize(
    "values",
    [{"tokens": [1, 2]}, {"tokens": "ab"}, {"token_type": [1]}, {"bos_token_id": "a"}, {"eot_token_id": [1]}],
)
def test_gguf_metadata_of_wrong_types_is_read_or_refused_but_never_breaks(values, tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    given = {"model": "gpt2", "tokens": ["a", "b"], "token_type": [1, 1], **values}
    for key, value in given.items():
        add = {str: writer.add_string, list: writer.add_array}[type(value)]
        add(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    read_or_refused(tmp_path)


def test_a_gguf_template_that_is_no_text_is_refused(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_uint32("tokenizer.chat_template", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    refused(tmp_path, "chat_template' is no text")


def test_a_torn_sentencepiece_model_is_refused(folders, tmp_path):
    content = (copied(folders, "sp_bpe", tmp_path) / "tokenizer.model").read_bytes()
    for at in range(0, len(content), 997):
        (tmp_path / "tokenizer.model").write_bytes(content[:at])
        read_or_refused(tmp_path)
