"""A tokenizer.json of any make, and any text: the ids and the text are those of transformers."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, normalizers, pre_tokenizers, processors

from selfevo_jax.text import load_tokenizer

transformers = pytest.importorskip("transformers")
PARTS = ["<|call|>", "<think>", "</think>", "<s>", "</s>", "<unk>", " ", "  ", "\n", "\t", "the", " answer", "12", "▁"]
PARTS += ["é", "e\u0301", "日本", "नमस्ते", "שלום", "🙂", "👍🏽", "\u200b", "ﬁ", "\u00a0", "A", "it's", "\r\n", "<0x0A>"]
TO_TEXT = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
META_DECODER = decoders.Sequence(TO_TEXT)
STRIPPED = decoders.Sequence([*TO_TEXT, decoders.Strip(" ", 1, 0)])


def metaspace(scheme):
    return {"normalizer": None, "pre_tokenizer": pre_tokenizers.Metaspace("▁", scheme, split=False)}


def level(prefix, *before):
    steps = [*before, pre_tokenizers.ByteLevel(add_prefix_space=prefix)]
    return {"pre_tokenizer": pre_tokenizers.Sequence(steps) if before else steps[0]}


SPLIT = pre_tokenizers.Split(tokenizers.Regex(r"\p{N}{1,3}|\s+(?!\S)|\s+|[^\s\p{N}]+"), "isolated")
MAKES = {
    "prepend": ("metaspace", {}),
    "always": ("metaspace", {**metaspace("always"), "decoder": STRIPPED}),
    "first": ("metaspace", {**metaspace("first"), "decoder": decoders.Metaspace("▁", "first")}),
    "never": ("metaspace", {**metaspace("never"), "decoder": META_DECODER}),
    "bytes": ("bytes", level(False)),
    "bytes_prefix": ("bytes", level(True)),
    "bytes_split": ("bytes", level(False, SPLIT, pre_tokenizers.Digits(individual_digits=True))),
    "bytes_nfc": ("bytes", {**level(False), "normalizer": normalizers.NFC()}),
    "bytes_lower": ("bytes", {**level(False), "normalizer": normalizers.Sequence([normalizers.Lowercase()])}),
}
BEGINS = {
    "none": None,
    "begin": ("BOS $A", True),
    "both": ("BOS $A EOS", True),
    "end": ("$A EOS", False),
}


@pytest.fixture(scope="module")
def pairs(folders, tmp_path_factory):
    """(name, ours, that of transformers) of each make, with each post-processor."""
    root, found = tmp_path_factory.mktemp("makes"), []
    for number, (name, (source, changes)) in enumerate(MAKES.items()):
        begin = list(BEGINS)[number % len(BEGINS)]
        tok = tokenizers.Tokenizer.from_file(str(folders[source] / "tokenizer.json"))
        for key, value in changes.items():
            setattr(tok, key, value)
        tok.post_processor = processors.ByteLevel(trim_offsets=False)
        tok.add_special_tokens(["<s>", "</s>"])
        tok.add_special_tokens([tokenizers.AddedToken("<|call|>", rstrip=True, normalized=False)])
        tok.add_tokens([tokenizers.AddedToken("<think>", normalized=False)])
        tok.add_tokens([tokenizers.AddedToken("</think>", lstrip=True, normalized=False)])
        if BEGINS[begin] is not None:
            single = BEGINS[begin][0].replace("BOS", "<s>").replace("EOS", "</s>")
            specials = [(text, tok.token_to_id(text)) for text in ("<s>", "</s>")]
            made = processors.TemplateProcessing(single=single, special_tokens=specials)
            tok.post_processor = processors.Sequence([tok.post_processor, made])
        folder = root / name
        folder.mkdir()
        tok.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        found.append((name, load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(str(folder)), begin))
    return found


@settings(max_examples=150)
@given(parts=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=10))
def test_any_text_has_the_ids_and_the_text_of_transformers(parts, pairs):
    text = "".join(parts)
    for name, tok, reference, _ in pairs:
        expected = reference.encode(text, add_special_tokens=False)
        assert tok.encode(text, special=True) == expected, name
        assert tok.encode_runs(tok.runs(text)) == expected, name
        shown = reference.decode(expected, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if "\ufffd" not in shown:
            assert tok.decode(expected) == shown, name
        if not any(control in text for control in tok.controls):
            assert tok.encode(text) == expected, name


def test_texts_begin_as_in_transformers_and_get_no_end(pairs):
    for name, tok, reference, begin in pairs:
        expected = reference.encode("the answer")
        if begin in ("both", "end"):
            assert expected.pop() == tok.eos_ids[0], name
        begins = [tok.bos_id] if tok.add_bos else []
        assert begins + tok.encode("the answer") == expected, name
        assert tok.add_bos == (begin in ("begin", "both")), name


@pytest.mark.parametrize("name", list(MAKES))
def test_a_text_that_goes_on_joins_to_the_text(name, pairs):
    tok = next(tok for made, tok, *_ in pairs if made == name)
    for text in (" feedback: a", "the", "4", "a<think>b"):
        joined = b"".join(map(tok.token_bytes, tok.encode_run(text, prefix=False))).decode()
        spaced = tok.prefix_after_control and "<think>" in text
        assert joined == (text.replace("<think>", "<think> ") if spaced else text), text
