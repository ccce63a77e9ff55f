"""Written answers and feedback have the ids by which a model goes on from the prompt before them."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.chains.judging import told_apart
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import LikelihoodJudge
from selfevo_jax.text import FormatSection, PromptFormat, load_tokenizer

NAMES = ("sp_bpe", "sp_bare", "bytes", "chatml", "no_system", "metaspace")
SHAPES = {
    "plain": FormatSection(kind="plain"),
    "spaced": FormatSection(kind="plain", respond="{prompt}\nAnswer: "),
    "lines": FormatSection(kind="plain", respond="{prompt}\nAnswer:\n"),
    "open": FormatSection(kind="plain", respond="{prompt}"),
}


@pytest.fixture(scope="module")
def tokens_of(loaded, sp_bare):
    """Name -> tokenizer."""
    return {**loaded, "sp_bare": sp_bare}


@pytest.fixture(scope="module")
def formats(tokens_of):
    return {(name, shape): PromptFormat(c, tokens_of[name]) for name in NAMES for shape, c in SHAPES.items()}


def written(fmt, tok, head, text):
    """The text of a prompt and of what is written behind it."""
    return tok.decode(head), tok.decode([*head, *fmt.continuation(head, text)])


@settings(max_examples=40)
@given(
    prompt=st.sampled_from(["How many", "How many ", "apples\n", ""]),
    text=st.text(st.sampled_from(" \nthe1s🙂é"), min_size=1, max_size=8),
)
def test_one_space_stands_before_a_written_text_where_there_is_no_white_space(prompt, text, formats, tokens_of):
    for (name, _), fmt in formats.items():
        asked, tok = fmt.respond(prompt), tokens_of[name]
        for head in (asked, fmt.judge(asked)):
            before, after = written(fmt, tok, head, text)
            seam = "" if not before or before[-1].isspace() or text[0].isspace() else " "
            assert after == before + seam + text, (name, fmt.config)


@settings(max_examples=40)
@given(words=st.lists(st.sampled_from(["the", "answer", "is", "12", "\n", "🙂", "correct."]), min_size=1, max_size=6))
def test_a_written_text_has_the_ids_of_the_joined_text(words, formats, tokens_of):
    text = " ".join(words)
    for name in NAMES:
        tok = tokens_of[name]
        for shape in ("plain", "lines"):
            head = formats[name, shape].respond("How many apples?")
            before, after = written(formats[name, shape], tok, head, text)
            bos = [tok.bos_id] if tok.add_bos else []
            joined = [*bos, *tok.encode(after)]
            if joined[: len(head)] == head:  # the pieces break at the seam
                assert [*head, *formats[name, shape].continuation(head, text)] == joined, (name, shape)
            else:
                assert text.startswith("\n"), (name, shape, before)


@pytest.mark.parametrize("text", ["is apple", "is  apple", "is\n\napple ", "\nis apple", " \n is", "the\u3000answer"])
@pytest.mark.parametrize("respond", ["{prompt}\nAnswer", "{prompt}\nAnswer "])
def test_white_space_of_a_written_text_collapses_where_it_does_in_the_joined_text(text, respond, loaded):
    tok = loaded["sp_unigram"]
    fmt = PromptFormat(FormatSection(respond=respond, judge=" correct", refine=" incorrect"), tok)
    head = fmt.respond("How many apples")
    assert [*head, *fmt.continuation(head, text)] == [tok.bos_id, *tok.encode("How many apples\nAnswer " + text)]


@pytest.mark.parametrize("text", ["12", "\nis"])
def test_a_prompt_that_ends_in_what_the_vocabulary_lacks_ends_in_no_white_space(text, loaded):
    tok = loaded["sp_unigram"]
    fmt = PromptFormat(FormatSection(respond="{prompt}"), tok)
    head = fmt.respond("apples 🙂")
    assert tok.decode(head).endswith(" ")  # as an unknown piece is shown
    assert [*head, *fmt.continuation(head, text)] == [tok.bos_id, *tok.encode(f"apples 🙂 {text}")]


def test_a_leading_newline_gains_no_piece_and_a_number_none_behind_a_space(formats, tokens_of):
    for name in NAMES:
        tok, spaced = tokens_of[name], formats[name, "spaced"]
        head = spaced.respond("How many")
        assert spaced.continuation(head, "12") == tok.encode_run("12", prefix=False), name
        assert spaced.continuation(head, "\n12") == tok.encode_run("\n12", prefix=False), name
        assert formats[name, "plain"].continuation(head[:-1], "12") == tok.encode_run(" 12", prefix=False), name
        assert spaced.continuation(head, "") == []


@pytest.mark.parametrize("name", ["sp_bpe", "metaspace"])
def test_a_chat_answer_begins_as_the_template_has_it_behind_a_prompt_that_ends_in_text(name, folders, loaded):
    reference = tokenizers.Tokenizer.from_file(str(folders["metaspace"] / "tokenizer.json"))
    fmt = PromptFormat(FormatSection(kind="chat", judge="Check", refine="Again"), loaded[name])
    so_far, text = fmt.respond("the apple"), "<s>[INST] the apple [/INST]"
    for answer, ask, ids in (("12 apples", "Check", fmt.judge), ("correct", "Again", fmt.refine)):
        so_far, text = [*so_far, *fmt.continuation(so_far, answer)], f"{text} {answer}"
        assert so_far == reference.encode(text, add_special_tokens=False).ids
        so_far, text = ids(so_far), f"{text}</s><s>[INST] {ask} [/INST]"


@pytest.mark.parametrize("name", ["chatml", "no_system"])
def test_a_chat_answer_gets_no_space_behind_the_line_that_opens_its_turn(name, loaded):
    fmt, tok = PromptFormat(FormatSection(kind="chat"), loaded[name]), loaded[name]
    head = fmt.respond("How many")
    assert fmt.continuation(head, "12 apples") == tok.encode_run("12 apples", prefix=False)
    assert fmt.continuation(head, "\n12") == tok.encode_run("\n12", prefix=False)


def test_behind_a_control_token_a_chat_answer_begins_as_the_tokenizer_has_it_there(loaded, tmp_path):
    template = (
        "{% for m in messages %}{{ bos_token if m['role'] == 'user' }}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    for name in ("sp_bpe", "metaspace", "takes white space"):
        folder = tmp_path / name
        folder.mkdir()
        for file, content in loaded["metaspace" if " " in name else name].files().items():
            (folder / file).write_bytes(content)
        (folder / "chat_template.jinja").write_text(template)
        if " " in name:
            tree = json.loads((folder / "tokenizer.json").read_text())
            tree["added_tokens"][2]["rstrip"] = True
            (folder / "tokenizer.json").write_text(json.dumps(tree))
        tok = load_tokenizer(folder)
        fmt = PromptFormat(FormatSection(kind="chat", judge="Check", refine="Again"), tok)
        head = fmt.respond("the apple")
        assert head[-1] == tok.controls["</s>"]
        for text in ("12", "\n12", " 12"):
            joined = tok.encode(f"<s>the apple</s>{text}", special=True)
            assert head + fmt.continuation(head, text) == joined, (name, text)


def test_the_texts_that_ask_end_as_the_prompt_does_since_a_refinement_is_also_an_answer(loaded):
    for space in ("", " ", "\n"):
        filled = FormatSection(respond="{prompt}\nAnswer:" + space).filled()
        assert (filled.judge, filled.refine) == (f"\nFeedback:{space}", f"\nRevision:{space}")
    given = FormatSection(respond="{prompt}\nAnswer: ", judge="\nJ:", refine="\nR: ")
    assert (given.filled().judge, PromptFormat(given, loaded["bytes"]).notice()) == ("\nJ:", None)
    apart = PromptFormat(FormatSection(respond="{prompt}\nAnswer: ", refine="\nR:"), loaded["bytes"])
    assert "format.refine" in apart.notice()
    assert PromptFormat(FormatSection(kind="chat", refine="Again "), loaded["chatml"]).notice() is None


def test_texts_around_a_prompt_that_nobody_chose_are_told_where_the_model_has_a_chat_template(loaded):
    assert "set format.kind=chat" in PromptFormat(FormatSection(respond="{prompt}\n"), loaded["chatml"]).notice()
    assert PromptFormat(FormatSection(kind="plain"), loaded["chatml"]).notice() is None


def test_a_stop_string_that_is_a_control_token_is_a_stop_id_and_not_looked_for_in_text(loaded):
    for kind in ("plain", "chat"):
        fmt = PromptFormat(FormatSection(kind=kind, stop_strings=("\n\n", "<|im_start|>")), loaded["chatml"])
        assert fmt.stop_strings == ("\n\n",)
        assert set(fmt.stop_ids) == {2, 0, loaded["chatml"].controls["<|im_start|>"]}
    with pytest.raises(ConfigError, match=r"format.stop_strings.*'<\|im_end\|>', which is never part of a text"):
        PromptFormat(FormatSection(stop_strings=("<|im_end|>\n",)), loaded["chatml"])


def test_a_control_token_can_be_the_end_where_the_tokenizer_names_none(loaded, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(loaded["chatml"].files()["tokenizer.json"])
    tok = load_tokenizer(tmp_path)
    fmt = PromptFormat(FormatSection(stop_strings=("<|im_end|>",)), tok)
    id = tok.controls["<|im_end|>"]
    assert (fmt.end, fmt.stop_ids, fmt.stop_strings) == ((id,), (id,), ())


def test_only_what_ends_texts_of_the_format_may_be_taught_as_an_end(loaded, tmp_path):
    tok = loaded["chatml"]
    fmt = PromptFormat(FormatSection(stop_strings=("\n\n",)), tok)
    taught = [end for end in ((2,), (0,), (), (1,), tok.encode("\n\n")) if fmt.ends(end)]
    assert taught == [(2,), (0,)]  # not the stop string: there is an end of text beside it
    (tmp_path / "tokenizer.json").write_bytes(loaded["bytes"].files()["tokenizer.json"])
    endless = load_tokenizer(tmp_path)
    by_string = PromptFormat(FormatSection(stop_strings=("\n\n", "Q")), endless)
    newline = endless.encode("\n")
    said = [by_string.end, (*newline, *newline), endless.encode("Q"), (*newline, *endless.encode("\nx"))]
    assert [by_string.ends(end) for end in said] == [True, True, False, False]


def test_the_words_of_a_verdict_are_told_apart_by_the_ids_that_they_have_in_written_feedback(tokens_of):
    for name in NAMES:
        kinds = ["plain"] + (["chat"] if tokens_of[name].chat_template else [])
        for fmt in (PromptFormat(FormatSection(kind=kind), tokens_of[name]) for kind in kinds):
            asked = fmt.judge(fmt.respond("How many?"))
            head = [*asked, *fmt.continuation(asked, "So. Verdict:")]
            shared, *firsts = told_apart(LikelihoodJudge(), head, fmt)
            for word, first in zip(("correct", "incorrect"), firsts, strict=True):
                whole = [*asked, *fmt.continuation(asked, f"So. Verdict: {word}.")]
                assert whole[: len(head) + len(shared) + 1] == [*head, *shared, first], (name, fmt.config.kind, word)
