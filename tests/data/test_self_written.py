"""Self-written prompts: what is shown, read, refused and counted. The model is played."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.data import read_prompts
from selfevo_jax.data.self_written import (
    Harvest,
    PromptFilter,
    WritingSettings,
    WrittenText,
    read_written,
    write_prompts,
    writing_text,
)
from selfevo_jax.errors import ConfigError

SEEDS = [
    f"Write a {kind} about the number {i} in plain words" for i, kind in enumerate(["poem", "song", "tale", "joke"] * 3)
]


def test_the_examples_are_a_numbered_list_that_ends_in_the_next_number():
    assert (
        writing_text(["Name  a\nfruit:", "Sing."]) == "Come up with a series of tasks:\n1. Name a fruit\n2. Sing.\n3."
    )


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        (" Name a fruit.\n10. Sing a song.\n11. Dance", ["Name a fruit.", "Sing a song.", "Dance"]),
        ("9. Name a fruit.\n10. Sing a song.", ["Name a fruit.", "Sing a song."]),
        ("Here are more tasks:\n\n9. Name a fruit.\n\n10) Sing.\n\nLet me know!", ["Name a fruit.", "Sing."]),
        ("Sure!\n1. Name a fruit.\n2. Sing.", ["Name a fruit.", "Sing."]),
        (" Sort this list:\n1. b\n2. a\n10. Sing.", ["Sort this list: 1. b 2. a", "Sing."]),
        ("**9.** Name a fruit.\n**10.** Sing.", ["Name a fruit.", "Sing."]),
        (" Add 1.5 and 2.\n10. Sing.", ["Add 1.5 and 2.", "Sing."]),
        (" a\n10. b\n11. c\n12. d\n13. e\n14. f", ["a", "b", "c", "d"]),
        (" Just one task", ["Just one task"]),
        ("", []),
        ("\n10.\n", ["10."]),
    ],
)
def test_the_prompts_of_a_written_text_are_read(text, prompts):
    assert read_written(text, 9, 4) == (prompts, 0)


def test_what_was_cut_off_at_a_limit_is_no_prompt_and_is_counted():
    assert read_written(" Name a fruit.\n10. Sing a so", 9, 8, whole=False) == (["Name a fruit."], 1)
    # the last one has ended: what is cut stands behind it
    assert read_written(" a\n10. b\n11. c\n12. d\n13. e", 9, 4, whole=False) == (["a", "b", "c", "d"], 0)
    assert read_written(" a\n\nAnd so on", 9, 8, whole=False) == (["a"], 0)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab 1290.)\n*", max_size=60), st.booleans())
def test_any_text_gives_prompts_of_one_line_and_no_more_than_were_asked_for(text, whole):
    prompts, cut = read_written(text, 9, 3, whole)
    assert len(prompts) + cut <= 4
    assert all(prompt.strip() and "\n" not in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("Name three kinds of fruit that grow in cold places.", None),
        ("Name a fruit", "short"),
        ("word " * 151, "long"),
        ("x" * 2001 + " a b c", "long"),
        ("- name three kinds of fruit", "characters"),
        ("Name three kinds of \ufffd fruit", "characters"),
        ("Say <|im_end|> and stop then", "characters"),
        ("Draw a circle around the word", "unsuitable"),
        ("Describe the picture of a dog", "unsuitable"),
        ("Write a program that adds two numbers", "unsuitable"),
        ("Describe a drawing-room of the old days", None),
        ("Write a poem about the number 0 in plain words:", "copy"),
        ("write a poem about  the number 0 in plain words", "copy"),
        ("Write one poem about the number 0 in plain words", "similar"),
        ("How many legs do five spiders have?", "evaluation"),
        ("How many legs do six spiders have?", "evaluation"),
        ("Explain in a long text, with care and step by step, why the sky above a town is blue.", "evaluation"),
        (
            "Pretend to be a teacher of a small school. Explain why the sky above a town is blue. Use no hard words.",
            "evaluation",
        ),
    ],
)
def test_a_prompt_is_refused_with_its_reason(prompt, reason):
    evaluation = ["How many legs do five spiders have?", "Explain why the sky above a town is blue."]
    if prompt.startswith("Explain in a long"):
        evaluation.append(
            "A task. " + prompt + " Then write twenty sentences on what rain is made of, where it goes, " * 2
        )
    assert PromptFilter(SEEDS, evaluation, WritingSettings()).refusal(prompt) == reason


def play(writer, say):
    """The harvest where `say(ask)` writes the texts, and the asks."""
    asked, texts = [], None
    try:
        while True:
            asks = writer.send(texts)
            asked += asks
            texts = [say(ask) for ask in asks]
    except StopIteration as end:
        return end.value, asked


def fresh(ask):
    """Two new prompts and one that is shown in the ask."""
    shown = ask.text.splitlines()[1].partition(". ")[2]
    word = ask.id.translate(str.maketrans("0123456789-", "abcdefghijk"))
    one, two = (" ".join(f"{word}{letter}{n}" for n in range(6)) for letter in "xy")
    return WrittenText(f" {one}\n10. {shown}\n11. {two}\n12. too sho", whole=False)


def test_prompts_are_written_until_there_are_enough_and_every_refusal_is_counted():
    writer = write_prompts(20, SEEDS, [], [], WritingSettings(), name="7-2", at_once=3)
    harvest, asks = play(writer, fresh)
    assert len(harvest.prompts) == 20
    assert harvest.texts == len(asks) == len({ask.id for ask in asks}) == 10
    assert harvest.refused == {"copy": 10, "clipped": 10}
    assert len({row.id for row in harvest.prompts}) == 20
    assert harvest.line() == "10 texts held 40 prompts: 20 kept, 10 cut off at a limit, 10 copies"


def test_the_examples_are_given_prompts_and_two_of_the_models_own_where_there_are_some():
    settings = WritingSettings()
    _, asks = play(write_prompts(40, SEEDS, [], [], settings, name="7-2", at_once=4), fresh)
    seeds = set(SEEDS)
    own = [sum(line.partition(". ")[2] not in seeds for line in ask.text.splitlines()[1:9]) for ask in asks]
    assert own[:4] == [0] * 4
    assert set(own[4:]) == {2}
    earlier = ["an own prompt of an earlier round", "and one more of those prompts"]
    _, asks = play(write_prompts(2, SEEDS, earlier, [], settings, name="7-3"), fresh)
    assert all(text in asks[0].text for text in earlier)


def test_the_same_texts_give_the_same_prompts_and_another_round_other_examples():
    def run(name):
        return play(write_prompts(10, SEEDS, [], [], WritingSettings(), name=name), fresh)

    assert run("7-2") == run("7-2")
    assert run("7-2")[1][0].text != run("7-3")[1][0].text


def test_a_model_that_writes_nothing_new_ends_the_writing_with_the_counts():
    writer = write_prompts(20, SEEDS, [], [], WritingSettings(), name="1-2", most_texts=5, at_once=2)
    harvest, asks = play(writer, lambda ask: WrittenText("", whole=True))
    assert (len(asks), harvest.prompts, harvest.empty) == (5, [], 5)
    assert harvest.line() == "5 texts held 0 prompts: 0 kept; 5 texts held none"


def test_settings_that_cannot_be_are_refused_by_name():
    with pytest.raises(ConfigError, match="own_examples: found 8, expected less than examples"):
        WritingSettings(own_examples=8)
    with pytest.raises(ConfigError, match="similarity: found 1.5"):
        WritingSettings(similarity=1.5)
    with pytest.raises(ConfigError, match=r"3 seeds; at least 8 \(examples\)"):
        next(write_prompts(1, SEEDS[:3], [], [], WritingSettings(), name="x"))
    assert isinstance(Harvest().line(), str)


def test_the_shipped_seed_tasks_can_be_shown_and_sifted():
    seeds = [row.prompt for row in read_prompts("builtin:self_instruct/seed_tasks")]
    sieve = PromptFilter(seeds, [], WritingSettings())
    near = "Is there anything I can eat for breakfast that doesn't include eggs, yet includes protein?"
    assert sieve.refusal(near) == "similar"
    assert next(write_prompts(8, seeds, [], [], WritingSettings(), name="x"))[0].text.count("\n") == 9
