"""Verifiable instructions: each kind on texts that do and do not follow it, strictly and loosely, and what is told of
rows and kinds that cannot be scored."""

import itertools
import re
from collections import Counter
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from selfevo_jax.scorers.checks import KINDS, OFFICIAL, letters, tokens
from selfevo_jax.scorers.constraints import Constraints, follows, loose_forms

MORE, FEWER = {"relation": "at least"}, {"relation": "less than"}
CASES = [
    ("keywords:existence", {"keywords": ["rain", "sun"]}, ["Sunny, then raining."], ["It rains.", "the s un, rain"]),
    ("keywords:existence", {"keywords": ["r..n"]}, ["ruin"], ["ran"]),
    ("keywords:frequency", {"keyword": " cat", "frequency": 2, **MORE}, ["Cats concatenate."], ["A cat."]),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, **FEWER}, ["A cat.", "none"], ["cat cat"]),
    ("keywords:forbidden_words", {"forbidden_words": ["art", "or"]}, ["Party of artists."], ["Or not.", "the art!"]),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 3, "let_relation": "at least"},
        ["eEe", "These trees"],
        ["Here"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "q", "let_frequency": 1, "let_relation": "less than"},
        ["no such letter"],
        ["Q"],
    ),
    ("length_constraints:number_words", {"num_words": 3, **MORE}, ["one-two three", "a b c d"], ["it's", "a, b!"]),
    ("length_constraints:number_words", {"num_words": 3, **FEWER}, ["a, b!"], ["it's so", "1.5 b"]),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "*** a *** b ***", "a***b"],
        ["a", "a *** *** b", "a\n\nb", "a***b***c"],
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, ["a\n\nb", "***a"], ["a***b"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        ["a\n\nthen, b", "a\n\n'THEN' b", 'a\n\n "then b', "a\n\nthen's b"],
        ["a\n\nb", "a\nthen b", "a\n\nthen b\n\nc", "a\n\n\n\nthen b", "a\n\nthence", "then\n\na"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "- a\n  - b\n", "*a\ntext\n-b", "** no\n* a\n* b"],
        ["* a", "** a\n** b", "* a\n* b\n- c", "1. a\n2. b", "a * b\nc - d"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["I think: My answer is maybe. Or so."],
        ["my answer is yes.", "My answer is yes"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b*", "**a** *b*", "*a*b*c*"],
        ["*a*", "**a**", "*a\nb* *c*", "** ** *a*"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": " Part ", "num_sections": 2},
        ["Part 1\na\nPart 2\nb", "Part1 Part2 Part3"],
        ["Part one, Part two", "PART 1 PART 2", "Part 1"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1, null]}', '```json\n{"a": 1}\n```', "```\n3\n```", ' "text" '],
        ["{'a': 1}", 'Here: {"a": 1}', '{"a": 1', "```python\n1\n```"],
    ),
    ("detectable_format:title", {}, ["<<A song>>\nla", "x <<<a>>>"], ["<A song>", "<<>>", "<< >>", "<<a\nb>>"]),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name] lives in [town]", "[] []"],
        ["[name]", "[a\nb] [c]", "(a) (b)"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. more", "p. s. more", "so p.s. it is", "P.P.S. more"],
        ["PS: more", "P.S more", "P.  S. more"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        ["P.P.S more", "p. p.s. more"],
        ["P.S. more", "PPS"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "Note"}, ["a\nnote b"], ["a"]),
    ("combination:two_responses", {}, ["a ****** b", "a******b******", "******a******b"], ["a", "a******a", "a***b"]),
    ("combination:two_responses", {}, [], ["a******b******c", "a****** ******b", "******a"]),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": " Name a fish. "},
        ["name a fish. Cod.", "\nName a fish."],
        ["Cod. Name a fish.", "Name a fish: cod", '"Name a fish." Cod.'],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "That is all. "},
        ["x. that is all.", 'x "That is all."', "That is all.\n"],
        ["That is all", "That is all. Bye.", "That is all.'"],
    ),
    (
        "startend:start_phrase",
        {"start_phrase": "Well then"},
        ["well then, so", '"Well then"'],
        ["So, well then", "Well"],
    ),
    ("startend:quotation", {}, ['"a"', ' "a" b "\n', '""'], ['"', '"a', "“a”", "'a'"]),
    ("punctuation:no_comma", {}, ["a; b", "a، b"], ["a, b", "1,000"]),
    ("change_case:lowercase", {}, ["all small, 2!"], ["One", "12 !"]),
    ("change_case:uppercase", {}, ["ALL 2"], ["ALl", "12"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["I am A", "NASA/ESA - ESA!", "YOU CAN'T", "A,B", "DON'T"],
        ["A-B", "Two Words", "I am", "U.S.A. is"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 1, "capital_relation": "less than"},
        ["none, 12 iPhones"],
        ["OK"],
    ),
]


SPOKEN = ["I", "CAN'T.", "CAN'T", "WANNA.", "wanna", "GO!", "U.S.", "Dr.", "IT'S.", "end.", "(A)", "A.'B", '"Q"']


@dataclass(frozen=True)
class Row:
    columns: dict
    id: str = "r"
    prompt: str = "p"


@pytest.fixture
def bare(monkeypatch):
    """A machine without Punkt and without language detection."""
    monkeypatch.setattr(tokens, "_punkt", lambda: None)
    monkeypatch.setattr(letters, "_detectors", lambda: None)


def _row(**kinds):
    return Row({"instruction_id_list": list(kinds), "kwargs": list(kinds.values())})


@pytest.mark.parametrize(("kind", "arguments", "yes", "no"), CASES, ids=[case[0] for case in CASES])
def test_a_kind_passes_what_follows_it_and_nothing_else(bare, kind, arguments, yes, no):
    assert KINDS[kind].fault_of(arguments) is None
    assert [text for text in yes if follows(text, kind, arguments) is not True] == []
    assert [text for text in no if follows(text, kind, arguments) is not False] == []


def test_all_25_official_kinds_are_there_and_each_that_needs_no_data_has_its_cases(bare):
    assert len(OFFICIAL) == 25
    assert {kind for kind, *_ in CASES} == {kind for kind in KINDS if KINDS[kind].missing() is None}


@pytest.mark.parametrize("kind", OFFICIAL)
def test_an_empty_text_follows_nothing(bare, kind):
    arguments = next((arguments for name, arguments, *_ in CASES if name == kind), {})
    for loose in (False, True):
        assert follows(" \n ", kind, arguments, loose) is (None if KINDS[kind].missing() else False)


def test_loose_forms_are_the_eight_of_the_paper():
    assert loose_forms("Sure:\n*a*\nb\nBye") == [
        "Sure:\n*a*\nb\nBye",
        "Sure:\na\nb\nBye",
        "*a*\nb\nBye",
        "a\nb\nBye",
        "Sure:\n*a*\nb",
        "Sure:\na\nb",
        "*a*\nb",
        "a\nb",
    ]


def test_loosely_an_introduction_a_closing_line_and_emphasis_are_forgiven():
    for text in ("Sure, here:\nno commas", "no commas\nBye, now", "Sure, here:\nno commas\nBye, now"):
        assert follows(text, "punctuation:no_comma", {}) is False
        assert follows(text, "punctuation:no_comma", {}, loose=True) is True
    assert follows("The **end**", "startend:end_checker", {"end_phrase": "the end"}, loose=True) is True
    assert follows("a\nb, c\nd", "punctuation:no_comma", {}, loose=True) is False


@settings(max_examples=150)
@given(st.text(alphabet='aB1 \n*-.,"<>[]#', max_size=40), st.sampled_from(CASES))
def test_what_is_followed_strictly_is_followed_loosely(text, case):
    kind, arguments, *_ = case
    if follows(text, kind, arguments):
        assert follows(text, kind, arguments, loose=True)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(SPOKEN)),
    st.randoms(),
)
def test_without_sentences_the_count_of_capitals_holds_whatever_they_are(words, rng):
    text = " ".join(words)
    cuts = [0, *(m.end() for m in re.finditer(r"[.!?] ", text) if rng.random() < 0.5), len(text)]
    parts = [text[a:b].strip() for a, b in itertools.pairwise(cuts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "sentences", lambda text: parts)
        known, _ = tokens.capital_words(text)
        patch.setattr(tokens, "sentences", lambda text: None)
        fewest, most = tokens.capital_words(text)
    assert fewest <= known <= most


def test_a_count_of_capitals_that_hangs_on_sentences_is_not_scored(bare):
    asked = {"capital_frequency": 2, "capital_relation": "at least"}
    assert tokens.capital_words("CAN'T. so be it") == (1, 2)
    assert follows("CAN'T. so be it", "change_case:capital_word_frequency", asked) is None
    assert follows("CAN'T. SO be it", "change_case:capital_word_frequency", asked) is True


@pytest.mark.parametrize("letter", ["#", "!", "é"])
def test_a_character_that_is_no_letter_is_not_scored(letter):
    arguments = {"letter": letter, "let_frequency": 1, "let_relation": "at least"}
    assert KINDS["keywords:letter_frequency"].fault_of(arguments) is None
    assert follows("# ! é", "keywords:letter_frequency", arguments) is None


def test_json_too_deep_to_be_read_is_not_scored():
    assert follows("[" * 200_000, "detectable_format:json_format", {}) is None


def test_kinds_without_their_data_are_named_and_neither_passed_nor_failed(bare):
    lacking = {
        "change_case:english_capital",
        "change_case:english_lowercase",
        "language:response_language",
        "length_constraints:number_sentences",
    }
    assert {kind for kind in KINDS if KINDS[kind].missing() is not None} == lacking
    row = _row(**{"change_case:english_lowercase": {}, "punctuation:no_comma": {}})
    grade = Constraints().grades([row], ["Not small, at all."])[0]
    assert grade.value is None
    assert grade.parts == {"change_case:english_lowercase": None, "punctuation:no_comma": False}
    said = Constraints().notice([row, row, _row(**{"punctuation:no_comma": {}})])
    assert said.startswith(
        "2 of 5 instructions are not scored: 2 of change_case:english_lowercase, which needs the package"
    )
    assert "pip install" in said
    assert Constraints().notice([_row(**{"punctuation:no_comma": {}})]) is None


def test_languages_are_told_where_langdetect_is_there():
    pytest.importorskip("langdetect")
    german = "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter von heute."
    english = "this is quite an ordinary english sentence about the weather of today."
    assert follows(german, "language:response_language", {"language": "de"}) is True
    assert follows(english, "language:response_language", {"language": "de"}) is False
    assert follows(english, "change_case:english_lowercase", {}) is True
    assert follows(german.lower(), "change_case:english_lowercase", {}) is False
    assert follows(english.upper(), "change_case:english_capital", {}) is True
    assert follows("123", "language:response_language", {"language": "de"}) is True


def test_sentences_are_counted_where_punkt_is_there():
    if tokens.without_sentences() is not None:
        pytest.skip("no Punkt")
    asked = {"num_sentences": 2, "relation": "at least"}
    assert follows("Dr. Smith went home. He slept.", "length_constraints:number_sentences", asked) is True
    assert follows("Dr. Smith went home at 3 p.m. today.", "length_constraints:number_sentences", asked) is False


def test_a_row_is_right_when_all_is_followed_and_parts_tell_each():
    row = _row(**{"startend:quotation": {}, "punctuation:no_comma": {}})
    right, partly = Constraints().grades([row, row], ['"a b"', "a b"])
    assert (right.value, right.right, partly.value) == (1.0, True, 0.0)
    assert partly.parts == {"startend:quotation": False, "punctuation:no_comma": True}
    assert not Constraints().grades([row], [""])[0].answered
    assert Constraints().key(row, '"a b"') is None


def test_one_kind_twice_in_a_row_is_two_parts():
    ids = ["keywords:existence"] * 2
    row = Row({"instruction_id_list": ids, "kwargs": [{"keywords": ["a"]}, {"keywords": ["z"]}]})
    assert Constraints().grades([row], ["a"])[0].parts == {
        "keywords:existence": True,
        "keywords:existence#2": False,
    }


def test_arguments_that_are_null_are_absent():
    table = {"keywords": None, "num_words": 2, "relation": "at least", "letter": None}
    row = _row(**{"length_constraints:number_words": table, "punctuation:no_comma": {"letter": None}})
    assert Constraints().fault(row) is None
    assert follows("a b", "length_constraints:number_words", table) is True


FAULTS = [
    ("no list", [], ["instruction_id_list", "no list"]),
    ([], [], ["instruction_id_list", "[]"]),
    (["punctuation:no_comma"], None, ["kwargs", "missing"]),
    (["punctuation:no_comma"], [], ["kwargs", "found 0", "list of 1"]),
    (["punctuation:nocomma"], [{}], ["instruction_id_list", "'punctuation:nocomma'", "punctuation:no_comma"]),
    (["punctuation:no_comma"], ["x"], ["kwargs", "'x'", "object"]),
    (["punctuation:no_comma"], [{"word": 1}], ["kwargs", "word", "none"]),
    (["length_constraints:number_words"], [{"num_words": 3}], ["kwargs", "relation", "missing", "at least"]),
    (["length_constraints:number_words"], [{"num_words": "3", **MORE}], ["kwargs", "num_words", "'3'"]),
    (["length_constraints:number_words"], [{"num_words": True, **MORE}], ["kwargs", "num_words", "True"]),
    (["length_constraints:number_words"], [{"num_words": 3, "relation": "at most"}], ["'at most'", "'less than'"]),
    (["keywords:existence"], [{"keywords": ["c++("]}], ["kwargs", "keywords", "c++(", "regular expression"]),
    (["keywords:existence"], [{"keywords": []}], ["kwargs", "keywords", "[]"]),
    (["keywords:existence"], [{"keywords": "word"}], ["kwargs", "keywords", "'word'", "list"]),
    (
        ["length_constraints:nth_paragraph_first_word"],
        [{"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}],
        ["kwargs", "nth_paragraph", "found 3", "num_paragraphs, 2"],
    ),
]


@pytest.mark.parametrize(("ids", "arguments", "words"), FAULTS)
def test_a_row_that_cannot_be_scored_says_why(ids, arguments, words):
    found = Constraints().fault(Row({"instruction_id_list": ids, "kwargs": arguments}))
    assert found is not None
    fault = f"{found.column}: {found.problem}"
    assert "\n" not in fault
    assert [word for word in words if word not in fault] == []


def test_every_kind_says_what_its_arguments_are():
    assert Counter(kind.id for kind in KINDS.values()).most_common(1)[0][1] == 1
    for kind in KINDS.values():
        assert all(argument.form for argument in kind.arguments.values())


def test_columns_may_have_other_names_and_loose_grades_are_named_so():
    row = Row({"ids": ["punctuation:no_comma"], "kwargs": [{}]})
    scorer = Constraints(columns={"instruction_id_list": "ids"}, loose=True)
    assert scorer.faults([row]) == [None]
    assert [grade.value for grade in scorer.grades([row, row], ["Well, so:\nyes", "a, b"])] == [1.0, 0.0]
    assert (scorer.name, Constraints().name, Constraints(loose=True, name="x").name) == (
        "constraints, loose",
        "constraints",
        "x",
    )
