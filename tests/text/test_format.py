"""SELF's prompts: append-only for each tokenizer, one BOS, no control token from user text, the template's own ids."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.text import FormatSection, PromptFormat, load_tokenizer

CASES = [(name, "plain") for name in ("sp_bpe", "sp_unigram", "bytes", "chatml", "no_system", "metaspace")]
CASES += [(name, "chat") for name in ("sp_bpe", "chatml", "no_system", "metaspace")]


@pytest.fixture(scope="module")
def formats(loaded):
    return {(n, k): PromptFormat(FormatSection(kind=k, system="You help."), loaded[n]) for n, k in CASES}


def with_template(loaded, tmp_path, template, name="chatml"):
    for file, content in loaded[name].files().items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "chat_template.jinja").write_text(template)
    return load_tokenizer(tmp_path)


@settings(max_examples=25)
@given(prompt=st.text(max_size=12), response=st.text(max_size=12), feedback=st.text(max_size=12))
def test_each_prompt_is_the_tokens_so_far_plus_a_few(prompt, response, feedback, formats, loaded):
    for (name, kind), fmt in formats.items():
        so_far = fmt.respond(prompt)
        so_far += fmt.continuation(so_far, response)
        judged = fmt.judge(so_far)
        assert judged[: len(so_far)] == so_far, (name, kind)
        assert judged[len(so_far) :] == fmt.judge([]), (name, kind)
        more = judged + fmt.continuation(judged, feedback)
        refined = fmt.refine(more)
        assert refined[: len(more)] == more, (name, kind)
        assert refined[len(more) :] == fmt.refine([]), (name, kind)


@settings(max_examples=25)
@given(prompt=st.text(max_size=12), control=st.sampled_from(["<s>", "</s>", "<bos>", "<|im_end|>", "<|im_start|>"]))
def test_exactly_one_bos_and_no_control_token_out_of_a_prompt(prompt, control, formats, loaded):
    for (name, kind), fmt in formats.items():
        tok, controls = loaded[name], set(loaded[name].controls.values())
        plain = [i for i in fmt.respond("x") if i in controls]
        assert [i for i in fmt.respond(control + prompt + control) if i in controls] == plain, (name, kind)
        if tok.add_bos:
            assert fmt.respond(prompt)[0] == tok.bos_id
            assert fmt.respond(prompt).count(tok.bos_id) == 1, (name, kind)


def test_the_end_of_a_turn_begins_what_is_appended_and_stops_sampling(formats):
    for fmt in formats.values():
        assert fmt.end
        assert tuple(fmt.judge([])[: len(fmt.end)]) == fmt.end == tuple(fmt.refine([])[: len(fmt.end)])
        assert fmt.end[0] in fmt.stop_ids


def test_plain_prompts_read_as_written(loaded):
    fmt = PromptFormat(FormatSection(system="Count.", judge="\nFeedback:", refine="\nRevision:"), loaded["bytes"])
    tok = loaded["bytes"]
    assert tok.decode(fmt.respond("How many {prompt}?")) == "Count.\nHow many {prompt}?\nAnswer:"
    assert fmt.judge([]) == [0, *tok.encode("\nFeedback:")]
    assert fmt.refine([]) == [0, *tok.encode("\nRevision:")]


@pytest.mark.parametrize("prompt", ["How many apples?", "1 + 1", "é 🙂\n\nx"])
def test_chat_ids_equal_those_of_the_whole_rendered_text(prompt, folders, loaded):
    reference = tokenizers.Tokenizer.from_file(str(folders["chatml"] / "tokenizer.json"))
    fmt = PromptFormat(
        FormatSection(kind="chat", system="You help.", judge="Check it.", refine="Again."), loaded["chatml"]
    )
    text = f"<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    assert fmt.respond(prompt) == reference.encode(text).ids
    answer = loaded["chatml"].encode("2 apples")
    text += "2 apples<|im_end|>\n<|im_start|>user\nCheck it.<|im_end|>\n<|im_start|>assistant\n"
    assert fmt.judge(fmt.respond(prompt) + answer) == reference.encode(text).ids
    text += "ok<|im_end|>\n<|im_start|>user\nAgain.<|im_end|>\n<|im_start|>assistant\n"
    so_far = fmt.judge(fmt.respond(prompt) + answer) + loaded["chatml"].encode("ok")
    assert fmt.refine(so_far) == reference.encode(text).ids


@pytest.mark.parametrize("name", ["chatml", "no_system", "metaspace"])
def test_chat_ids_equal_those_of_transformers(name, folders, loaded):
    transformers = pytest.importorskip("transformers")
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(str(folders[name]))
    fmt = PromptFormat(FormatSection(kind="chat", judge="Check it.", refine="Again."), loaded[name])
    turns = [{"role": "user", "content": "How many apples?"}]

    def rendered():
        text = reference.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return reference.encode(text, add_special_tokens=False)

    so_far = fmt.respond("How many apples?")
    assert so_far == rendered()
    for answer, ask, prompt in (("12 apples", "Check it.", fmt.judge), ("correct", "Again.", fmt.refine)):
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": ask}]
        so_far = prompt(so_far + fmt.continuation(so_far, answer))
        if name != "metaspace":  # its template puts a blank before the end of a turn, which a model never says
            assert so_far == rendered()


def test_metaspace_chat_ids_equal_those_of_the_whole_rendered_text(folders, loaded):
    reference = tokenizers.Tokenizer.from_file(str(folders["metaspace"] / "tokenizer.json"))
    fmt = PromptFormat(FormatSection(kind="chat", judge="Check", refine="Again"), loaded["metaspace"])
    text = "<s>[INST] the apple [/INST]"
    assert fmt.respond("the apple") == reference.encode(text, add_special_tokens=False).ids
    suffix = reference.encode("</s><s>[INST] Check [/INST]", add_special_tokens=False).ids
    assert fmt.judge([5]) == [5, *suffix]


def test_both_backends_of_one_vocabulary_give_the_same_prompts(formats, loaded):
    # the SentencePiece model and the tokenizer.json made from it
    for kind in ("plain", "chat"):
        a, b = formats["sp_bpe", kind], formats["metaspace", kind]
        assert a.respond("the apple is now 12") == b.respond("the apple is now 12")
        assert (a.judge([]), a.refine([]), a.end) == (b.judge([]), b.refine([]), b.end)


def test_a_template_without_a_system_role_gets_it_in_the_first_user_turn(loaded):
    tok = loaded["no_system"]
    fmt = PromptFormat(FormatSection(kind="chat", system="You help."), tok)
    assert tok.decode(fmt.respond("How many?")) == "user\nYou help.\n\nHow many?\nassistant\n"
    assert fmt.respond("How many?").count(tok.controls["<|im_start|>"]) == 2


def test_a_template_that_ignores_the_system_role_gets_it_in_the_first_user_turn(loaded, tmp_path):
    template = (
        "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tok = with_template(loaded, tmp_path, template)
    fmt = PromptFormat(FormatSection(kind="chat", system="You help."), tok)
    assert "You help.\n\nHow many?" in tok.decode(fmt.respond("How many?"))


def test_a_template_that_rewrites_earlier_turns_is_refused_by_name(loaded, tmp_path):
    template = "{{ messages | length }}{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    with pytest.raises(ModelError, match="append-only") as caught:
        PromptFormat(FormatSection(kind="chat"), with_template(loaded, tmp_path, template))
    assert str(tmp_path) in str(caught.value)


HISTORY = (
    "{% for m in messages %}{% set said = m['content'] %}{% if m['role'] == 'assistant' and not loop.last %}REWRITE"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ said }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    "rewrite",
    [
        "{% set said = said.split('</think>')[-1].lstrip('\n') %}",
        "{% if '<|thought|>' in said %}{% set said = said.split('<|answer|>')[-1] %}{% endif %}",
        "{% if messages[loop.index0 + 2] is defined %}{% set said = said.split('[/THINK]')[-1] %}{% endif %}",
        "{% set said = said | replace('####', '') %}",
        "{% set said = said.split('\n\n')[0] %}",
        "{% set said = said | escape %}",
        "{% set said = said | title %}",
        "{% set said = said[:20] %}",
        "{% set said = said.split() | join(' ') %}",
    ],
)
def test_a_template_that_rewrites_what_was_said_is_refused_with_the_reason(rewrite, loaded, tmp_path):
    tok = with_template(loaded, tmp_path, HISTORY.replace("REWRITE", rewrite))
    with pytest.raises(ModelError, match="changes what the assistant said|not append-only") as caught:
        PromptFormat(FormatSection(kind="chat"), tok)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("rewrite", ["", "{% set said = said | trim %}", "{% if '</think>' in said %}{% endif %}"])
def test_a_template_that_keeps_or_trims_what_was_said_is_used(rewrite, loaded, tmp_path):
    PromptFormat(FormatSection(kind="chat"), with_template(loaded, tmp_path, HISTORY.replace("REWRITE", rewrite)))


def test_settings_of_the_chat_template_reach_the_prompts_and_the_fingerprint(loaded, tmp_path):
    switch = "{% if enable_thinking is defined and not enable_thinking %}/no_think {% endif %}"
    tok = with_template(loaded, tmp_path, switch + HISTORY.replace("REWRITE", ""))
    plain, quiet = (
        PromptFormat(FormatSection(kind="chat", template=settings), tok)
        for settings in ({}, {"enable_thinking": False})
    )
    assert tok.decode(quiet.respond("Hi")) == "/no_think " + tok.decode(plain.respond("Hi"))
    assert plain.fingerprint != quiet.fingerprint


def test_a_template_that_asks_whether_there_are_tools_has_none(loaded, tmp_path):
    tok = with_template(
        loaded, tmp_path, "{% if tools is not none %}You have tools.{% endif %}" + HISTORY.replace("REWRITE", "")
    )
    assert "tools" not in tok.decode(PromptFormat(FormatSection(kind="chat"), tok).respond("Hi"))


@pytest.mark.parametrize("template", ["{{ raise_exception('never') }}", "{{ messages[0].nothing.more }}", "no turns"])
def test_a_template_that_shows_no_user_turn_is_refused_by_name(template, loaded, tmp_path):
    with pytest.raises(ModelError, match="chat template") as caught:
        PromptFormat(FormatSection(kind="chat"), with_template(loaded, tmp_path, template))
    assert str(tmp_path) in str(caught.value)


def test_a_template_without_an_end_of_turn_gets_the_end_of_text(loaded, tmp_path):
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tok = with_template(loaded, tmp_path, template, "bytes")
    fmt = PromptFormat(FormatSection(kind="chat", judge="Check"), tok)
    assert fmt.end == (0,)
    assert tok.decode(fmt.judge([])) == "\nuser: Check\nassistant: "


def test_no_template_and_no_end_of_text_are_refused(loaded, tmp_path):
    with pytest.raises(ModelError, match="no chat template"):
        PromptFormat(FormatSection(kind="chat"), loaded["bytes"])
    (tmp_path / "tokenizer.json").write_bytes(loaded["bytes"].files()["tokenizer.json"])
    tok = load_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="stop_strings"):
        PromptFormat(FormatSection(), tok)
    fmt = PromptFormat(FormatSection(stop_strings=("\n\n",)), tok)
    assert tok.decode(fmt.end) == "\n\n"
    assert fmt.stop_ids == ()
    assert fmt.stop_strings == ("\n\n",)


@pytest.mark.parametrize(
    "bad",
    [
        {"respond": "no slot"},
        {"respond": "{prompt}{prompt}"},
        {"judge": " "},
        {"refine": ""},
        {"stop_strings": ("",)},
        {"template": {"enable_thinking": False}},
        {"template": {"messages": []}, "kind": "chat"},
    ],
)
def test_formats_that_cannot_be_used_are_refused_by_key(bad, loaded):
    with pytest.raises(ConfigError, match=f"format.{next(iter(bad))}"):
        PromptFormat(FormatSection(**bad), loaded["bytes"])


def test_an_empty_prompt_is_a_prompt(formats):
    for fmt in formats.values():
        assert fmt.respond("")


def test_the_fingerprint_depends_on_format_and_tokenizer(formats, loaded):
    again = PromptFormat(FormatSection(kind="chat", system="You help."), loaded["chatml"])
    assert again.fingerprint == formats["chatml", "chat"].fingerprint
    changed = PromptFormat(FormatSection(kind="chat", system="You help.", refine="Again."), loaded["chatml"])
    prints = {fmt.fingerprint for fmt in formats.values()} | {changed.fingerprint}
    assert len(prints) == len(formats) + 1
