"""Tokens beside a tokenizer's model: their ids and flags are those of transformers, or they are refused by name."""

import json

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from selfevo_jax.errors import ModelError
from selfevo_jax.text import FormatSection, PromptFormat, load_tokenizer

transformers = pytest.importorskip("transformers")
SIZE = 380
MESSAGES = [{"role": "user", "content": "How many apples?"}]
OPENING = "<|im_start|>user\nHow many apples?<|im_end|>\n<|im_start|>assistant\n"


def token(content, **flags):
    return {"content": content, "special": True, "normalized": False, **flags}


ENDS = {str(SIZE): token("<|im_end|>"), str(SIZE + 1): token("<|im_start|>")}


@pytest.fixture
def chatml(loaded):
    return loaded["chatml"].chat_template


def sp_folder(folders, folder, change=None, **config):
    """A SentencePiece folder with these settings; `change` takes the model's message."""
    proto = sentencepiece_model_pb2.ModelProto.FromString((folders["sp_bpe"] / "tokenizer.model").read_bytes())
    if change is not None:
        change(proto)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def json_folder(folders, folder, added, **config):
    """The byte-level tokenizer.json with further added tokens."""
    tree = json.loads((folders["bytes"] / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tree["added_tokens"] += [{"id": SIZE + i, **flags, **token(**t)} for i, t in enumerate(added)]
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def reference_ids(folder, text):
    return transformers.AutoTokenizer.from_pretrained(str(folder)).encode(text, add_special_tokens=False)


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_tokenizer(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("legacy", [None, False, True])
def test_tokens_declared_beside_a_sentencepiece_model_have_the_ids_of_transformers(legacy, folders, chatml, tmp_path):
    config = {} if legacy is None else {"legacy": legacy}
    folder = sp_folder(
        folders, tmp_path, added_tokens_decoder=ENDS, eos_token="<|im_end|>", chat_template=chatml, **config
    )
    tok = load_tokenizer(folder)
    assert (tok.vocab_size, tok.eos_ids) == (SIZE + 2, (SIZE,))
    assert tok.encode(OPENING, special=True) == reference_ids(folder, OPENING)
    assert PromptFormat(FormatSection(kind="chat"), tok).respond("How many apples?") == [
        1,
        *reference_ids(folder, OPENING),
    ]
    assert not set(tok.encode(OPENING)) & set(tok.controls.values())


def test_the_older_files_of_added_tokens_are_read_too(folders, tmp_path):
    folder = sp_folder(folders, tmp_path)
    (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": SIZE, "<|im_start|>": SIZE + 1}))
    special = {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    tok = load_tokenizer(folder)
    assert tok.eos_ids == (SIZE,)
    assert tok.encode(OPENING, special=True) == reference_ids(folder, OPENING)


def test_added_tokens_that_are_not_special_are_found_in_any_text(folders, tmp_path):
    added = {str(SIZE): token("<think>", special=False), str(SIZE + 1): token("</think>", special=False, rstrip=True)}
    tok = load_tokenizer(sp_folder(folders, tmp_path, added_tokens_decoder=added))
    text = "<think>the answer is</think> \n12"
    assert tok.encode(text) == tok.encode(text, special=True) == reference_ids(tmp_path, text)
    assert tok.decode(tok.encode(text)) == "<think> the answer is</think> 12".replace("> ", ">")


def test_stored_added_tokens_make_the_same_tokenizer(folders, tmp_path):
    folder, again = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    again.mkdir()
    tok = load_tokenizer(sp_folder(folders, folder, added_tokens_decoder=ENDS, eot_token="<|im_end|>"))
    for file, content in tok.files().items():
        (again / file).write_bytes(content)
    fields = ("vocab_size", "eos_ids", "controls", "template_tokens", "fingerprint")
    assert [getattr(load_tokenizer(again), f) for f in fields] == [getattr(tok, f) for f in fields]
    assert tok.template_tokens["eot_token"] == "<|im_end|>"


@pytest.mark.parametrize(
    ("id", "text", "match"),
    [
        (SIZE + 7, "<|im_end|>", f"'<.im_end.>' is declared with id {SIZE + 7}, but has id {SIZE} "),
        (300, "<|im_end|>", "'<.im_end.>' is declared with id 300"),
        (SIZE, "</s>", f"'</s>' is declared with id {SIZE}, but has id 2 "),
    ],
)
def test_a_token_with_another_id_than_declared_is_refused_by_name(id, text, match, folders, tmp_path):
    refused(sp_folder(folders, tmp_path, added_tokens_decoder={str(id): token(text)}), match)
    (tmp_path / "tokenizer.model").unlink()
    if text != "</s>":
        refused(json_folder(folders, tmp_path, [], added_tokens_decoder={str(id): token(text)}), match)


@pytest.mark.parametrize("entry", [{"x": token("<a>")}, {"380": "<a>"}, {"380": {"special": True}}])
def test_a_declaration_that_is_none_is_refused(entry, folders, tmp_path):
    refused(sp_folder(folders, tmp_path, added_tokens_decoder=entry), "added_tokens_decoder: found the entry")


@pytest.mark.parametrize("kind", ["sentencepiece", "json"])
def test_special_tokens_without_an_id_are_refused_by_name(kind, folders, tmp_path):
    make = sp_folder if kind == "sentencepiece" else lambda f, t, **config: json_folder(f, t, [], **config)
    refused(make(folders, tmp_path, eos_token="<|im_end|>"), "eos_token is '<.im_end.>', which is neither")
    refused(make(folders, tmp_path, additional_special_tokens=["<|call|>"]), "'<.call.>'")


@pytest.mark.parametrize("ids", [[2, 10_000], 10_000, [2, -1]])
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_an_end_outside_the_vocabulary_is_refused_not_left_out(ids, file, folders, tmp_path):
    folder = sp_folder(folders, tmp_path)
    (folder / file).write_text(json.dumps({"eos_token_id": ids}))
    refused(folder, r"end-of-text id (10000|-1) is not in the vocabulary of 380 tokens")


def user_defined(proto):
    for piece in (proto.pieces[SIZE - 1], proto.pieces[SIZE - 2]):
        piece.type = 4
    proto.pieces[SIZE - 1].piece, proto.pieces[SIZE - 2].piece = "<|im_end|>", "<|im_start|>"


@pytest.mark.parametrize("by", ["name", "generation_config"])
def test_an_end_of_turn_that_is_a_user_defined_piece_is_a_control_token(by, folders, chatml, tmp_path):
    named = {"eos_token": "<|im_end|>"} if by == "name" else {}
    more = {"additional_special_tokens": ["<|im_start|>"], "chat_template": chatml}
    folder = sp_folder(folders, tmp_path, user_defined, **named, **more)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [SIZE - 1]}))
    tok = load_tokenizer(folder)
    assert tok.controls["<|im_end|>"] == SIZE - 1
    assert not {SIZE - 1, SIZE - 2} & set(tok.encode("<|im_end|> a <|im_start|>"))
    judge = PromptFormat(FormatSection(kind="chat"), tok).judge([])
    assert judge[0] == SIZE - 1
    assert judge.count(SIZE - 1) == 2  # of the answer and of the question about it
    assert tok.decode([SIZE - 1]) == ""


def test_other_user_defined_pieces_stay_text(folders, tmp_path):
    folder = sp_folder(folders, tmp_path, user_defined)
    tok = load_tokenizer(folder)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    text = "a<|im_end|> the<|im_start|>"
    assert tok.encode(text) == reference.encode(text)
    assert tok.decode(tok.encode(text)) == text


def test_an_end_that_any_text_can_hold_is_refused(folders, tmp_path):
    refused(sp_folder(folders, tmp_path, eos_token="<0x0A>"), "'<0x0A>' is to begin or end texts, but any text")
    (tmp_path / "tokenizer.model").write_bytes((folders["sp_unigram"] / "small.model").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<unk>"}))
    refused(tmp_path, "'<unk>' is to begin or end texts, but any text")


@pytest.mark.parametrize("text", ["the", "\n", "!"])
def test_an_end_that_any_text_can_hold_is_refused_of_a_tokenizer_json_too(text, folders, tmp_path):
    json_folder(folders, tmp_path, [])
    (id,) = load_tokenizer(tmp_path).encode(text)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, id]}))
    refused(tmp_path, "is to begin or end texts, but any text can hold it")


FLAGS = [{"rstrip": True}, {"lstrip": True}, {"single_word": True}, {"lstrip": True, "rstrip": True}]
FLAGGED = ["<u>\na", "a \n<u> \t b", "x<u>y", "x <u> y", " <u><u>  <u>", "a\u00a0<u>\u2003b\u001f<u>"]


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_of_special_tokens_are_followed(flags, folders, tmp_path):
    names = ("json", "sp", "declared")
    for name in names:
        (tmp_path / name).mkdir()
    json_folder(folders, tmp_path / "json", [{"content": "<u>", **flags}])
    sp_folder(
        folders,
        tmp_path / "sp",
        added_tokens_decoder={str(SIZE): token("<u>", **flags)},
        tokenizer_class="PreTrainedTokenizerFast",
    )
    # the flags of tokenizer_config.json go before those of the tokenizer.json
    json_folder(
        folders,
        tmp_path / "declared",
        [{"content": "<u>", "lstrip": True, "rstrip": True}],
        added_tokens_decoder={str(SIZE): token("<u>", **flags)},
    )
    for name in names:
        tok = load_tokenizer(tmp_path / name)
        reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path / name))
        for text in FLAGGED:
            expected = reference.encode(text, add_special_tokens=False)
            assert tok.encode(text, special=True) == expected, (name, text)
            assert tok.encode_runs(tok.runs(text)) == expected, (name, text)


@pytest.mark.parametrize("kind", ["sentencepiece", "json"])
def test_a_token_that_is_named_as_an_object_is_found_as_in_transformers(kind, folders, tmp_path):
    named = {"__type": "AddedToken", "lstrip": True, "rstrip": True, "normalized": False, "single_word": False}
    if kind == "json":
        json_folder(folders, tmp_path, [], cls_token={**named, "content": "the"})
    else:  # a control piece of the model has no flags but declared ones
        bos = {**named, "content": "<s>"}
        sp_folder(folders, tmp_path, bos_token=bos, tokenizer_class="PreTrainedTokenizerFast")
    tok = load_tokenizer(tmp_path)
    for text in ("a  the answer", "a <s>  a\n<s> b"):
        assert tok.encode(text, special=True) == tok.encode_runs(tok.runs(text)) == reference_ids(tmp_path, text)


def test_a_tokenizer_json_goes_before_the_older_files(folders, tmp_path):
    folder = json_folder(folders, tmp_path, [{"content": "<u>", "rstrip": True}])
    (folder / "added_tokens.json").write_text(json.dumps({"<u>": SIZE, "<w>": SIZE + 1}))
    tok = load_tokenizer(folder)
    text = "a <u>  b<w> c"
    assert tok.encode(text, special=True) == reference_ids(folder, text)
    assert (tok.controls["<u>"], "<w>" in tok.controls) == (SIZE, False)
    again = tmp_path / "again"
    again.mkdir()
    for file, content in tok.files().items():
        (again / file).write_bytes(content)
    assert load_tokenizer(again).encode(text, special=True) == tok.encode(text, special=True)


def test_a_template_token_takes_the_white_space_of_the_prompt_beside_it(folders, tmp_path):
    template = (
        "{% for m in messages %}{{ '<u>' if m.role == 'user' else '<a>' }}{{ m.content }}<e>{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}"
    )
    added = [{"content": "<u>", "rstrip": True}, {"content": "<e>", "lstrip": True}, {"content": "<a>"}]
    json_folder(folders, tmp_path, added, chat_template=template)
    fmt = PromptFormat(FormatSection(kind="chat"), load_tokenizer(tmp_path))
    reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    for prompt in ("a", " \n a \n", "\ta"):
        turns = [{"role": "user", "content": prompt}]
        expected = reference.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert fmt.respond(prompt) == expected


PARTS = ["<u>", "<v>", "<w>", "<uu>", " ", "\n", "a", "é", "_", "1", "\u0301", "日", "🙂", "\u00a0", "<"]


@settings(max_examples=60)
@given(data=st.data())
def test_any_flags_and_any_text_have_the_ids_of_the_library(data, folders, tmp_path_factory):
    flag = st.booleans()
    added = [
        {"content": text, "special": True, **{name: data.draw(flag) for name in ("single_word", "lstrip", "rstrip")}}
        for text in ("<u>", "<v>", "<uu>")
    ]
    added.append({"content": "<w>", "special": False, "rstrip": data.draw(flag)})
    folder = json_folder(folders, tmp_path_factory.mktemp("flags"), added)
    tok = load_tokenizer(folder)
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    for _ in range(5):
        text = "".join(data.draw(st.lists(st.sampled_from(PARTS), max_size=12)))
        assert tok.encode_runs(tok.runs(text)) == reference.encode(text, add_special_tokens=False)
