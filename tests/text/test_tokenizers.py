"""Tokenizers: ids equal those of the libraries, text comes back, control tokens cannot be written by a user."""

import json

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, processors

from selfevo_jax.errors import ModelError
from selfevo_jax.text import FormatSection, PromptFormat, load_tokenizer

NAMES = ["sp_bpe", "sp_unigram", "bytes", "chatml", "no_system", "metaspace"]
LOSSLESS = ["sp_bpe", "bytes", "chatml", "no_system", "metaspace"]
TEXTS = [
    "the answer is 12.",
    "",
    " ",
    "  two  blanks ",
    "\n\nFeedback:\n",
    "🙂 é ñ 日本",
    "<s></s><|im_end|>",
    "a\u0000b\t",
]


@pytest.mark.parametrize("name", ["sp_bpe", "sp_unigram"])
@pytest.mark.parametrize("text", TEXTS)
def test_sentencepiece_ids_and_text_equal_the_librarys(name, text, folders, loaded):
    file = next(folders[name].glob("*.model"))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(file))
    ids = reference.encode(text)
    assert loaded[name].encode(text) == ids
    if "\ufffd" not in reference.decode(ids):
        assert loaded[name].decode(ids) == reference.decode(ids)


@pytest.mark.parametrize("name", ["bytes", "chatml", "no_system", "metaspace"])
@pytest.mark.parametrize("text", [t for t in TEXTS if "<" not in t])
def test_tokenizer_json_ids_and_text_equal_the_librarys(name, text, folders, loaded):
    reference = tokenizers.Tokenizer.from_file(str(folders[name] / "tokenizer.json"))
    ids = reference.encode(text, add_special_tokens=False).ids
    assert loaded[name].encode(text) == ids
    assert loaded[name].decode(ids) == reference.decode(ids)


@settings(max_examples=60)
@given(text=st.text(max_size=40))
def test_text_comes_back(text, loaded):
    for name in LOSSLESS:
        assert loaded[name].decode(loaded[name].encode(text)) == text, name


@settings(max_examples=60)
@given(data=st.data())
def test_user_text_never_makes_a_control_id(data, loaded):
    controls = st.sampled_from(["<s>", "</s>", "<unk>", "<|im_end|>", "<|im_start|>", "<bos>", "<|endoftext|>"])
    text = "".join(data.draw(st.lists(st.one_of(controls, st.text(max_size=5)), max_size=6)))
    for name in NAMES:
        assert not set(loaded[name].encode(text)) & set(loaded[name].controls.values()), name


def test_special_reads_control_tokens(loaded):
    tok = loaded["chatml"]
    ids = tok.encode("<|im_start|>user\nHow<|im_end|>", special=True)
    assert (ids[0], ids[-1]) == (1, 2)
    assert tok.decode(ids) == "user\nHow"
    assert loaded["sp_bpe"].encode("<s>the</s>", special=True) == [1, *loaded["sp_bpe"].encode("the"), 2]


def test_special_ids_equal_the_librarys_parse(folders, loaded):
    text = "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    reference = tokenizers.Tokenizer.from_file(str(folders["chatml"] / "tokenizer.json"))
    assert loaded["chatml"].encode(text, special=True) == reference.encode(text, add_special_tokens=False).ids
    text = "<s>[INST] the apple [/INST]"
    reference = tokenizers.Tokenizer.from_file(str(folders["metaspace"] / "tokenizer.json"))
    assert loaded["metaspace"].encode(text, special=True) == reference.encode(text, add_special_tokens=False).ids


def test_every_stop_id_is_known(loaded):
    assert loaded["chatml"].eos_ids == (2, 0)
    assert loaded["sp_bpe"].eos_ids == (2,)


def test_bos_only_where_the_tokenizer_begins_texts_with_it(loaded):
    flags = {name: (loaded[name].bos_id, loaded[name].add_bos) for name in NAMES}
    assert flags["no_system"] == (0, True)  # its post-processor adds it
    assert flags["chatml"] == (1, False)  # its BOS only marks turns
    assert flags["bytes"] == (None, False)
    assert flags["metaspace"] == flags["sp_bpe"] == (1, True)


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_files_make_the_same_tokenizer(name, loaded, tmp_path):
    tok = loaded[name]
    for file, content in tok.files().items():
        (tmp_path / file).write_bytes(content)
    again = load_tokenizer(tmp_path)
    fields = ("vocab_size", "bos_id", "eos_ids", "pad_id", "add_bos", "chat_template", "controls", "fingerprint")
    assert [getattr(again, f) for f in fields] == [getattr(tok, f) for f in fields]
    assert again.encode_run("\nthe answer", prefix=False) == tok.encode_run("\nthe answer", prefix=False)


def test_fingerprint_depends_on_the_template(folders, loaded, tmp_path):
    for file in folders["chatml"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "other"}))
    assert load_tokenizer(tmp_path).fingerprint != loaded["chatml"].fingerprint


@pytest.mark.parametrize("name", LOSSLESS)
def test_text_that_goes_on_gets_no_leading_space(name, loaded):
    tok = loaded[name]
    joined = b"".join(map(tok.token_bytes, tok.encode_run("\nFeedback:", prefix=False)))
    assert joined == b"\nFeedback:"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", b"{", "not a tokenizer.json"),
        ("bad.model", b"no model", "not a SentencePiece model"),
        ("bad.gguf", b"GGUX", "not a GGUF file"),
        ("bad.gguf", b"GGUF\x03\0\0\0", "malformed GGUF"),
        ("notes.txt", b"", "not a tokenizer"),
    ],
)
def test_bad_files_are_refused_by_name(file, content, message, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(tmp_path / file)
    assert file in str(caught.value)


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer in this folder"):
        load_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="no such tokenizer"):
        load_tokenizer(tmp_path / "absent.model")


def test_word_pieces_are_refused(tmp_path):
    tok = tokenizers.Tokenizer(tokenizers.models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tok.decoder = tokenizers.decoders.WordPiece()
    tok.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="WordPiece"):
        load_tokenizer(tmp_path)


TEMPLATE = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
BYTES = processors.ByteLevel(trim_offsets=False)


@pytest.mark.parametrize(
    "processor",
    [
        TEMPLATE,
        processors.Sequence([TEMPLATE]),
        processors.Sequence([BYTES, TEMPLATE]),
        processors.RobertaProcessing(("</s>", 2), ("<s>", 1)),
        processors.BertProcessing(("</s>", 2), ("<s>", 1)),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_text_begins_with_what_its_post_processor_puts_first_and_gets_no_end(named, processor, folders, tmp_path):
    tok = tokenizers.Tokenizer.from_file(str(folders["metaspace"] / "tokenizer.json"))
    tok.post_processor = processor
    tok.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>"} if named else {"eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    made = load_tokenizer(tmp_path)
    assert (made.bos_id, made.add_bos, made.eos_ids) == (1, True, (2,))
    assert PromptFormat(FormatSection(), made).respond("the apple") == tok.encode("the apple\nAnswer:").ids[:-1]


def test_the_setting_goes_before_the_post_processor(folders, tmp_path):
    tok = tokenizers.Tokenizer.from_file(str(folders["metaspace"] / "tokenizer.json"))
    tok.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "add_bos_token": False}))
    assert not load_tokenizer(tmp_path).add_bos


def test_two_tokens_before_each_text_are_refused(folders, tmp_path):
    tok = tokenizers.Tokenizer.from_file(str(folders["metaspace"] / "tokenizer.json"))
    tok.post_processor = processors.TemplateProcessing(single="<s> </s> $A", special_tokens=[("<s>", 1), ("</s>", 2)])
    tok.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="begins texts with <s> </s>, expected one token at most"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"split_special_tokens": True}, "split_special_tokens of tokenizer_config.json takes control tokens apart"),
        ({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, "add_prefix_space is true for the GPT2Token"),
        ({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": False}, None),
        ({"tokenizer_class": "Qwen2Tokenizer"}, "the Qwen2Tokenizer of tokenizer_config.json normalizes to NFC, the"),
        ({"tokenizer_class": "Qwen2TokenizerFast", "add_prefix_space": True}, "add_prefix_space is true for the Qwen2"),
    ],
)
def test_settings_that_would_make_other_ids_than_the_file_are_refused(config, message, folders, tmp_path):
    made = tokenizers.Tokenizer.from_file(str(folders["bytes"] / "tokenizer.json"))
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if message is None:
        load_tokenizer(tmp_path)
    else:
        with pytest.raises(ModelError, match=message):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize("normalizer", [normalizers.NFC(), normalizers.Sequence([normalizers.NFC()])])
def test_a_file_with_the_steps_of_its_class_is_read(normalizer, folders, tmp_path):
    made = tokenizers.Tokenizer.from_file(str(folders["bytes"] / "tokenizer.json"))
    made.normalizer = normalizer
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    assert load_tokenizer(tmp_path).encode("e\u0301") == load_tokenizer(tmp_path).encode("\u00e9")
