"""The way out: a tokenizer of any kind, as a tokenizer.json, has the same ids in transformers, or is refused."""

import contextlib
import json

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from selfevo_jax.checkpoint.gguf_export import add_fields
from selfevo_jax.errors import ModelError
from selfevo_jax.text import (
    FormatSection,
    PromptFormat,
    check_exported,
    exported_tokenizer,
    gguf_fields,
    load_tokenizer,
)
from selfevo_jax.text.export import checked_texts

transformers = pytest.importorskip("transformers")
IDENTITY = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
CORPUS = [
    *(
        [
            "the",
            "answer",
            "is",
            "twelve",
            "apples",
            "now",
            ".",
            "Question",
            "Feedback",
            "correct",
            "incorrect",
            "finds",
            "sells",
        ]
        * 4
    ),
    "How many apples does she sell? 12 + 30 = 42, 7.5 % / \\ { } [ ] # - : ; ! ( ) ' \" < > | _",
    "日本語の文 мир привет ñandú été שלום नमस्ते ｶﾞ が 한국어",
] * 8
KINDS = {
    "bpe": {"model_type": "bpe", "vocab_size": 420, "byte_fallback": True, **IDENTITY},
    "bpe_bare": {"model_type": "bpe", "vocab_size": 420, "byte_fallback": True, "add_dummy_prefix": False, **IDENTITY},
    "bpe_nfkc": {"model_type": "bpe", "vocab_size": 170},
    "bpe_defined": {
        "model_type": "bpe",
        "vocab_size": 420,
        "byte_fallback": True,
        "user_defined_symbols": ["<think>", "<|im_end|>", "[x]"],
        **IDENTITY,
    },
    "unigram": {"model_type": "unigram", "vocab_size": 150},
    "unigram_bare": {"model_type": "unigram", "vocab_size": 150, "add_dummy_prefix": False},
    "unigram_bytes": {
        "model_type": "unigram",
        "vocab_size": 410,
        "byte_fallback": True,
        "user_defined_symbols": ["<think>", "<|im_end|>"],
        **IDENTITY,
    },
    "char": {"model_type": "char", "vocab_size": 110},
    "char_bare": {
        "model_type": "char",
        "vocab_size": 110,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<think>"],
        **IDENTITY,
    },
}
NAMES = [*KINDS, "defined_end", "added", "added_first", "bytes", "chatml", "no_system", "metaspace"]


@pytest.fixture(scope="module")
def sources(folders, tmp_path_factory):
    """Name -> folder of each tokenizer to write out."""
    root = tmp_path_factory.mktemp("sources")
    made = {name: folders[name] for name in ("bytes", "chatml", "no_system", "metaspace")}
    for name, options in KINDS.items():
        made[name] = root / name
        made[name].mkdir()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_prefix=str(made[name] / "tokenizer"),
            minloglevel=9,
            num_threads=1,
            character_coverage=1.0,
            hard_vocab_limit=False,
            **options,
        )
    added = [{"content": "<u>", "special": True, "rstrip": True}, {"content": "<w>", "special": False, "lstrip": True}]
    for name, source, config in (
        ("defined_end", "bpe_defined", {"eos_token": "<|im_end|>", "legacy": False}),
        ("added", "unigram", {"legacy": True}),
        ("added_first", "bpe", {"legacy": False}),
    ):
        made[name] = root / name
        made[name].mkdir()
        content = (made[source] / "tokenizer.model").read_bytes()
        (made[name] / "tokenizer.model").write_bytes(content)
        size = len(sentencepiece_model_pb2.ModelProto.FromString(content).pieces)
        if name != "defined_end":
            config["added_tokens_decoder"] = {str(size + i): {"normalized": False, **t} for i, t in enumerate(added)}
        (made[name] / "tokenizer_config.json").write_text(json.dumps(config))
    return made


@pytest.fixture(scope="module")
def exported(sources, tmp_path_factory):
    """Name -> (tokenizer, the one of transformers from the exported folder, the folder)."""
    root, found = tmp_path_factory.mktemp("exported"), {}
    for name in NAMES:
        tok, folder = load_tokenizer(sources[name]), root / name
        folder.mkdir()
        files = exported_tokenizer(tok)
        check_exported(files, tok)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        found[name] = tok, transformers.AutoTokenizer.from_pretrained(str(folder)), folder
    return found


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_tokenizer_has_the_same_ids_in_transformers(name, exported):
    tok, reference, _ = exported[name]
    texts = checked_texts(tok)
    assert len(texts) == 200
    for text in texts:
        ids = tok.encode(text, special=True)
        assert reference.encode(text, add_special_tokens=False) == ids, text
        assert reference.encode(text) == ([tok.bos_id] if tok.add_bos else []) + ids, text
    assert reference.eos_token_id == tok.eos_ids[0]


PARTS = ["<u>", "<w>", "<think>", "<|im_end|>", "[x]", "<s>", "</s>", "<unk>", "<0x0A>", " ", "  ", "\n", "\t", "the"]
PARTS += [
    "▁",
    "apples",
    "12",
    "é",
    "e\u0301",
    "ｶﾞ",
    "か\u3099",
    "日本",
    "मस्",
    "שלום",
    "🙂",
    "👍🏽",
    "\u200b",
    "ﬁ",
    "\u00a0",
]


@settings(max_examples=120)
@given(parts=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=12))
def test_any_text_has_the_same_ids_in_transformers(parts, exported):
    text = "".join(parts)
    for name, (tok, reference, _) in exported.items():
        if "unigram" in name or name in ("char", "bpe_nfkc", "added"):  # stacks of marks, see sentencepiece_json
            text = "".join(part for part in parts if part in PARTS)
        assert reference.encode(text, add_special_tokens=False) == tok.encode(text, special=True), name


@settings(max_examples=60)
@given(parts=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=6)), max_size=8))
def test_any_text_has_the_ids_and_the_text_of_the_sentencepiece_library(parts, sources, exported):
    text = "".join(parts)
    for name in KINDS:
        tok = exported[name][0]
        reference = sentencepiece.SentencePieceProcessor(model_file=str(sources[name] / "tokenizer.model"))
        ids = reference.encode(text.encode("utf-8", "replace").decode())
        assert tok.encode(text) == ids, name
        assert tok.decode(ids) == reference.decode(ids) or reference.unk_id() in ids, name


@pytest.mark.parametrize("name", ["bpe", "bpe_bare", "unigram_bytes", "added_first", "chatml", "metaspace"])
def test_an_exported_tokenizer_gives_back_the_same_text(name, exported):
    tok, reference, _ = exported[name]
    for text in ("the answer is 12.\n", " a  b ", "日本 🙂 é<think>x"):
        ids = tok.encode(text)
        assert reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == tok.decode(ids)


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_tokenizer_is_read_back_with_the_same_ids(name, exported):
    tok, _, folder = exported[name]
    again = load_tokenizer(folder)
    assert (again.bos_id, again.add_bos, again.eos_ids, again.controls) == (
        tok.bos_id,
        tok.add_bos,
        tok.eos_ids,
        tok.controls,
    )
    for text in ("the answer", "\n\nx </s><0x0A> <unk>y", "a</s>", ""):
        assert again.encode(text) == tok.encode(text), text


def test_template_and_every_taught_stop_id_are_written(exported):
    tok, reference, _folder = exported["chatml"]
    turns = [{"role": "user", "content": "How many?"}]
    assert reference.apply_chat_template(turns, add_generation_prompt=True)["input_ids"] == PromptFormat(
        FormatSection(kind="chat"), tok
    ).respond("How many?")
    files = exported_tokenizer(tok, stop_ids=(1, 2))
    assert json.loads(files["generation_config.json"])["eos_token_id"] == [2, 0, 1]


def test_a_difference_is_refused_with_the_text(exported):
    tok, _, _folder = exported["unigram"]
    files = exported_tokenizer(tok)
    tree = json.loads(files["tokenizer.json"])
    tree["pre_tokenizer"] = None
    with pytest.raises(ModelError, match="cannot be written as a tokenizer.json: 'the' has the ids"):
        check_exported({**files, "tokenizer.json": json.dumps(tree).encode()}, tok, ["", "the"])


@pytest.fixture(scope="module")
def as_gguf(sources, tmp_path_factory):
    """Name -> (tokenizer, the one read back from a GGUF file), of those that are not refused."""
    gguf, root, found = pytest.importorskip("gguf"), tmp_path_factory.mktemp("gguf"), {}
    for name in NAMES:
        tok, file = load_tokenizer(sources[name]), root / f"{name}.gguf"
        with contextlib.suppress(ModelError):
            fields = gguf_fields(tok, tok.vocab_size + 3)
            writer = gguf.GGUFWriter(file, "llama")
            add_fields(writer, fields)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            again = load_tokenizer(file)
            if all(again.encode(t, special=True) == tok.encode(t, special=True) for t in checked_texts(tok)):
                found[name] = tok, again
    return found


def test_tokenizers_are_taken_to_gguf_or_refused(as_gguf):
    refused = {"bpe_nfkc", "bpe_defined", "unigram_bytes", "defined_end", "metaspace"}
    assert refused.isdisjoint(as_gguf)
    assert as_gguf.keys() >= {"bpe", "bpe_bare", "unigram", "unigram_bare", "char", "char_bare", "bytes", "chatml"}
    for tok, again in as_gguf.values():
        assert (again.bos_id, again.add_bos, again.eos_ids) == (tok.bos_id, tok.add_bos, tok.eos_ids)
        assert not again.drawable(tok.vocab_size + 3)[-3:].any()
        assert again.chat_template == tok.chat_template


@settings(max_examples=60)
@given(parts=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=12))
def test_any_text_has_the_same_ids_in_a_gguf_file(parts, as_gguf):
    for name, (tok, again) in as_gguf.items():
        assert again.encode("".join(parts), special=True) == tok.encode("".join(parts), special=True), name


@pytest.mark.parametrize("change", ["unused", "word", "escape"])
def test_models_without_a_counterpart_are_refused(change, sources, tmp_path):
    proto = sentencepiece_model_pb2.ModelProto.FromString((sources["bpe"] / "tokenizer.model").read_bytes())
    if change == "unused":
        proto.pieces[-1].type = 5
    elif change == "word":
        proto.trainer_spec.model_type = 3
        proto.trainer_spec.byte_fallback = False
        for piece in proto.pieces:
            piece.type = 1 if piece.type == 6 else piece.type
    else:
        proto.normalizer_spec.escape_whitespaces = False
    (tmp_path / "tokenizer.model").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="cannot be exported"):
        exported_tokenizer(load_tokenizer(tmp_path))
