"""Self-written prompts: what is shown, read, refused and counted. The model is played."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.config import parse_config
from selfevo_jax.data import SelfWrittenSection, read_prompts
from selfevo_jax.data.self_written import (
    Harvest,
    PromptFilter,
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
    assert writing_text("Some tasks:", ["Name  a\nfruit:", "Sing."]) == "Some tasks:\n1. Name a fruit\n2. Sing.\n3."


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


@settings(max_examples=150)
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
    assert PromptFilter(SEEDS, evaluation, SelfWrittenSection()).refusal(prompt) == reason


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
    writer = write_prompts(20, SEEDS, [], [], SelfWrittenSection(at_once=3), name="7-2")
    harvest, asks = play(writer, fresh)
    assert len(harvest.prompts) == 20
    assert harvest.texts == len(asks) == len({ask.id for ask in asks}) == 10
    assert harvest.refused == {"copy": 10, "clipped": 10}
    assert len({row.id for row in harvest.prompts}) == 20
    assert harvest.line() == "10 texts held 40 prompts: 20 kept, 10 cut off at a limit, 10 copies"


def test_the_examples_are_given_prompts_and_two_of_the_models_own_where_there_are_some():
    settings = SelfWrittenSection(at_once=4)
    _, asks = play(write_prompts(40, SEEDS, [], [], settings, name="7-2"), fresh)
    seeds = set(SEEDS)
    own = [sum(line.partition(". ")[2] not in seeds for line in ask.text.splitlines()[1:9]) for ask in asks]
    assert own[:4] == [0] * 4
    assert set(own[4:]) == {2}
    earlier = ["an own prompt of an earlier round", "and one more of those prompts"]
    _, asks = play(write_prompts(2, SEEDS, earlier, [], settings, name="7-3"), fresh)
    assert all(text in asks[0].text for text in earlier)


def test_the_same_texts_give_the_same_prompts_and_another_round_other_examples():
    def run(name):
        return play(write_prompts(10, SEEDS, [], [], SelfWrittenSection(), name=name), fresh)

    assert run("7-2") == run("7-2")
    assert run("7-2")[1][0].text != run("7-3")[1][0].text


def test_a_model_that_writes_nothing_new_ends_the_writing_with_the_counts():
    writer = write_prompts(20, SEEDS, [], [], SelfWrittenSection(patience=2, at_once=4), name="1-2")
    harvest, asks = play(writer, lambda ask: WrittenText("", whole=True))
    assert (len(asks), harvest.prompts, harvest.empty) == (6, [], 6)
    assert harvest.line() == "6 texts held 0 prompts: 0 kept; 6 texts held none"


def test_a_text_that_could_not_be_run_is_counted_as_that_and_holds_no_prompt():
    writer = write_prompts(8, SEEDS, [], [], SelfWrittenSection(patience=1), name="1-2")
    harvest, _ = play(writer, lambda ask: WrittenText("", whole=False, error="too long"))
    assert (harvest.texts, harvest.failed, harvest.empty, harvest.refused.total()) == (1, 1, 0, 0)
    assert harvest.line() == "1 texts held 0 prompts: 0 kept; 1 texts could not be run"


def test_counts_come_back_from_plain_values_as_they_were():
    harvest, _ = play(write_prompts(20, SEEDS, [], [], SelfWrittenSection(), name="7-2"), fresh)
    assert Harvest.of_dict(harvest.to_dict(), harvest.prompts) == harvest


@pytest.mark.parametrize("similarity", [0.7, 1.0])
def test_a_row_of_an_evaluation_set_is_never_kept_however_short_or_like_it_another_may_be(similarity):
    sieve = PromptFilter([], ["Add two and three:", "- ! ? *"], SelfWrittenSection(similarity=similarity))
    assert sieve.refusal("add  two and three") == "evaluation"
    assert sieve.refusal("Multiply two by seven") is None


def test_a_seed_of_more_words_than_a_prompt_may_have_is_not_shown():
    long = "word " * 151
    _, asks = play(write_prompts(40, [*SEEDS, long], [], [], SelfWrittenSection(), name="1-2"), fresh)
    assert not any("word word" in ask.text for ask in asks)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"own_examples": 8}, r"data.self_written: own_examples: found 8, expected less than examples \(8\)"),
        ({"similarity": 1.5}, r"data.self_written.similarity: found 1.5, expected a number above 0 up to 1"),
        ({"least_words": 9, "most_words": 8}, r"data.self_written: most_words: found 8, expected 9"),
        ({"given_share": 1}, r"data.self_written.given_share: found 1, expected a number from 0 below 1"),
        ({"unsuitable": [" "]}, r"data.self_written.unsuitable.0: found ' '"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, said):
    tree = {"run_dir": "r", "model": {"source": "m"}, "data": {"stories": {}, "self_written": settings}}
    with pytest.raises(ConfigError, match=said):
        parse_config(tree)


def test_too_few_seeds_to_show_are_refused():
    with pytest.raises(ConfigError, match=r"data.self_written.seeds: 3 different prompts .* at least 8 \(examples\)"):
        next(write_prompts(1, SEEDS[:3], [], [], SelfWrittenSection(), name="x"))


def test_the_shipped_seed_tasks_can_be_shown_and_sifted():
    seeds = [row.prompt for row in read_prompts("builtin:self_instruct/seed_tasks")]
    sieve = PromptFilter(seeds, [], SelfWrittenSection())
    near = "Is there anything I can eat for breakfast that doesn't include eggs, yet includes protein?"
    assert sieve.refusal(near) == "similar"
    assert next(write_prompts(8, seeds, [], [], SelfWrittenSection(), name="x"))[0].text.count("\n") == 9
