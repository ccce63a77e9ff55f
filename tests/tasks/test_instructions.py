"""The task of verifiable instructions: prompts, what is set apart, feedback that quotes."""

import itertools
import json
import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from instruction_helpers import EVERY, TEXTS, instructions_config, rows_of
from pydantic import ValidationError

from selfevo_jax.config import RoundsSection, parse_config
from selfevo_jax.data import PromptRow, read_prompts
from selfevo_jax.data.instructions_section import TAUGHT, InstructionsSection
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.rounds.dealing import given as given_prompts
from selfevo_jax.scorers.checks import KINDS, letters
from selfevo_jax.scorers.constraints import Constraints
from selfevo_jax.tasks import open_task
from selfevo_jax.tasks.instructions import (
    Demand,
    check_apart,
    feedback,
    near_miss,
    repaired,
    split,
)
from selfevo_jax.tasks.instructions.crafts import CLASHES, CRAFTS, unmet
from selfevo_jax.tasks.instructions.generate import draw_demands
from selfevo_jax.tasks.instructions.wordings import BRIEF, WORDINGS
from selfevo_jax.text import VerdictRule, parse_verdict

SMALL = InstructionsSection(kinds=EVERY, meta={"base": 1}, evaluation={"base": 1})
PART = split([PromptRow(str(n), f"Do {n}.") for n in range(9)], SMALL).prompts


def _demands(kinds, rng, part):
    found = []
    for kind in kinds:
        arguments, atoms = CRAFTS[kind].draw(part.atoms[kind], rng)
        found.append(Demand(kind, arguments, rng.choice(part.wordings[kind]), atoms))
    return found


@pytest.mark.parametrize("kind", EVERY)
def test_each_kind_is_asked_for_repaired_missed_by_little_and_judged(kind, part):
    rng = random.Random(kind)
    done = 0
    for text in TEXTS * 4:
        demands = _demands([kind], rng, part)
        fixed = repaired(demands, text, rng)
        if fixed is None:  # two words cannot be highlighted eight times
            continue
        missed = near_miss(demands, fixed, rng)
        assert unmet(demands, fixed) == []
        done += missed is not None
        for said in filter(None, (text, fixed, missed)):
            words, good = feedback(demands, said)
            assert good is (KINDS[kind].check(said, **demands[0].arguments) is True)
            assert parse_verdict(words, VerdictRule()).good is good
            assert words.startswith("Need ")
            assert ("wrong." in words) is not good
            assert feedback(demands, said, quote=True) == (f"1. {demands[0].text} {words}", good)
    assert done > len(TEXTS)


def test_kinds_that_go_together_are_both_repaired(part):
    rng = random.Random(0)
    pairs = [pair for pair in itertools.combinations(EVERY, 2) if frozenset(pair) not in CLASHES]
    never = [p for p in pairs if not any(repaired(_demands(p, rng, part), text, rng) for text in TEXTS)]
    assert never == []
    assert len(pairs) > 60


NOTES = [
    ("change_case:lowercase", {}, "so It is", 'Need no capitals: first words "so It", found "It", wrong.'),
    ("change_case:lowercase", {}, "so it is", 'Need no capitals: first words "so it", found none, ok.'),
    ("change_case:lowercase", {}, "1 2", 'Need no capitals: first words "1 2", found no letters, wrong.'),
    (
        "startend:end_checker",
        {"end_phrase": "Any questions left?"},
        "Yes. Any questions left!",
        'Need the end "Any questions left?": last words "questions left!", wrong.',
    ),
    (
        "startend:end_checker",
        {"end_phrase": "Any questions left?"},
        "Yes. Any questions left?",
        'Need the end "Any questions left?": last words "questions left?", ok.',
    ),
    ("startend:start_phrase", {"start_phrase": "In short"}, "In short, yes it is", None),
    (
        "keywords:existence",
        {"keywords": ["rain", "sun"]},
        "Much. a heavy rain, no more",
        'Need "rain": sentence "a heavy rain, no more", ok. Need "sun": sentence "a heavy rain, no more", wrong.',
    ),
    (  # the last sentence with the word, not the last of all
        "keywords:existence",
        {"keywords": ["rain", "sun"]},
        "Rain. Rains came and sun.\nAll is well",
        'Need "rain": sentence "Rains came and sun.", ok. Need "sun": sentence "Rains came and sun.", ok.',
    ),
    (  # of a long one what leads to the word, or to its end where it lacks
        "keywords:existence",
        {"keywords": ["rain", "sun"]},
        "When we came there after many a day of rain no one had a coat",
        'Need "rain": sentence "we came there after many a day of rain", ok. '
        'Need "sun": sentence "many a day of rain no one had a coat", wrong.',
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["so"]}, "also so", 'Need no "so": found "also so", wrong.'),
    ("punctuation:no_comma", {}, 'a "b", c', 'Need no commas: found "b,", wrong.'),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        "a b c",
        "Need less than 3 words: counted 3, wrong.",
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "text", "note"), NOTES)
def test_feedback_quotes_the_evidence_at_the_same_place_right_or_wrong(kind, arguments, text, note):
    words, good = feedback([Demand(kind, arguments, "")], text)
    note = note or 'Need the start "In short": first words "In short, yes", ok.'
    assert words == f"{note} Verdict: {'correct' if good else 'incorrect'}"


@settings(max_examples=200)
@given(st.text(alphabet="aB .,!?\"'“”‘’`*<>[]{}()#:-\n", max_size=60), st.integers(0, 10**6))
def test_the_verdict_is_read_back_whatever_is_quoted(text, seed):
    rng = random.Random(seed)
    demands = _demands(rng.sample(EVERY, 2), rng, PART)
    for quote in (False, True):
        words, good = feedback(demands, "So: " + text, quote)
        assert parse_verdict(words, VerdictRule()).good is good


def test_a_near_miss_fails_by_one_demand_alone(part):
    rng = random.Random(1)
    for text in TEXTS * 5:
        demands = _demands(["startend:end_checker", "change_case:lowercase"], rng, part)
        missed = near_miss(demands, repaired(demands, text, rng), rng)
        assert missed is None or len(unmet(demands, missed)) == 1


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_evaluation_shares_neither_base_nor_wording_nor_argument_with_the_rest(seed):
    section = InstructionsSection(seed=seed, kinds=EVERY)
    parts = split(read_prompts(section.source.source), section)
    for used in (parts.meta, parts.prompts):
        assert not set(used.base) & set(parts.evaluation.base)
        for kind in EVERY:
            assert not set(used.wordings[kind]) & set(parts.evaluation.wordings[kind])
            assert not set(used.atoms[kind]) & set(parts.evaluation.atoms[kind])
        assert not set(used.brief) & set(parts.evaluation.brief)
    assert parts.meta.brief == parts.prompts.brief
    assert not set(parts.meta.base) & set(parts.prompts.base)
    for kind in EVERY:
        assert set(parts.meta.wordings[kind]) < set(parts.prompts.wordings[kind])
        assert len(parts.meta.wordings[kind]) == 3
        assert len(parts.prompts.wordings[kind]) == 9
    assert parts.seen.base == parts.evaluation.base
    assert parts.seen.wordings == parts.prompts.wordings


def test_what_is_not_set_apart_is_that_of_the_rounds(base):
    parts = split(base, InstructionsSection(apart=("wordings",)))
    assert parts.evaluation.base == parts.prompts.base
    assert parts.evaluation.atoms == parts.prompts.atoms
    assert not set(parts.evaluation.wordings["keywords:existence"]) & set(parts.prompts.wordings["keywords:existence"])
    parts = split(base, InstructionsSection(apart=("base",)))
    assert not set(parts.evaluation.base) & set(parts.prompts.base)
    assert parts.evaluation.wordings == parts.prompts.wordings


def test_rows_themselves_are_held_to_what_is_set_apart(base):
    section = InstructionsSection()
    parts = split(base, section)
    used, fresh = rows_of(parts.prompts, 300, section), rows_of(parts.evaluation, 100, section)
    check_apart(used, fresh, section.apart)
    for apart, other in (
        ((), used[:1]),
        (("wordings",), rows_of(parts.seen, 100, section)),
        (("arguments",), rows_of(parts.seen, 100, section)),
        (("base",), rows_of(parts.prompts, 100, section, seed="other")),
    ):
        with pytest.raises(ConfigError, match=r"data\.instructions\.evaluation: \d+ of its \d+ .*apart") as error:
            check_apart(used, other, apart)
        assert "\n" not in str(error.value)


def test_copies_among_base_instructions_do_not_cross_the_parts():
    rows = [PromptRow(f"{copy}{n}", f"Do  {n}." if copy else f"do {n}.") for copy in range(2) for n in range(30)]
    section = InstructionsSection(meta={"base": 8}, evaluation={"base": 8})
    parts = split(rows, section)
    assert sum(map(len, (parts.meta.base, parts.prompts.base, parts.evaluation.base))) == 30
    check_apart(rows_of(parts.prompts, 200, section), rows_of(parts.evaluation, 50, section), section.apart)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"meta": {"base": 120}}, ["data.instructions.source", "133", "meta.base 120", "154"]),
        ({"prompts": {"wordings": 13}}, ["data.instructions.prompts.wordings", "14 wordings", "lower"]),
        (
            {"evaluation": {"arguments": 0.5}},
            ["evaluation.arguments: 0.5", "prompts.arguments 0.75", "lower"],
        ),
    ],
)
def test_too_little_to_set_apart_is_told_with_the_key(base, settings, words):
    with pytest.raises(ConfigError) as error:
        split(base, InstructionsSection(**settings))
    assert [word for word in words if word not in str(error.value)] == []


def test_unknown_kinds_and_kinds_named_twice_are_refused():
    for kinds in (("keywords:exists",), ("punctuation:no_comma",) * 2, ()):
        with pytest.raises(ValidationError, match=r"did you mean 'keywords:existence'|twice|at least 1"):
            InstructionsSection(kinds=kinds)
    with pytest.raises(ValidationError, match=r"meta\.wordings: found 12, expected at most prompts\.wordings, 9"):
        InstructionsSection(meta={"wordings": 12})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"apart": ["arguments"]}, r"found arguments, expected base or wordings"),
        ({"apart": []}, r"found nothing, expected base or wordings"),
        ({"apart": ["wordings"], "evaluation": {"seen_rows": 5}}, r"evaluation\.seen_rows: needs base"),
    ],
)
def test_an_evaluation_whose_prompts_could_be_those_of_the_rounds_is_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        InstructionsSection(**settings)


def test_prompts_are_the_same_for_a_seed_each_once_and_scored_by_their_own_columns(base):
    section = InstructionsSection(kinds=EVERY)
    part = split(base, section).prompts
    rows = rows_of(part, 600, section)
    assert rows == rows_of(part, 600, section)
    assert rows[:5] != rows_of(part, 5, section, seed="other")
    assert len({row.prompt for row in rows}) == len({row.id for row in rows}) == 600
    assert Constraints().faults(rows) == [None] * 600
    sizes = Counter(len(row.demands) for row in rows)
    assert 0.4 < sizes[2] / 600 < 0.6
    assert {demand.kind for row in rows for demand in row.demands} == set(EVERY)
    assert not any(frozenset(demand.kind for demand in row.demands) in CLASHES for row in rows)
    for row in rows:
        assert row.prompt.startswith(row.base)
        assert any(words in row.prompt for words in part.brief)
        assert "{" not in row.prompt.replace("{}", "")
        for demand in row.demands:
            assert all(str(atom) in row.prompt for atom in demand.atoms)


def test_a_source_that_gives_too_few_prompts_is_told():
    section = InstructionsSection(
        kinds=("punctuation:no_comma",), two_share=0.0, brief=False, meta={"base": 1}, evaluation={"base": 1}
    )
    part = split([PromptRow(str(n), f"Do {n}.") for n in range(4)], section).prompts
    assert len(rows_of(part, 18, section)) == 18
    with pytest.raises(ConfigError, match="only 18 different prompts"):
        rows_of(part, 19, section)


@pytest.mark.parametrize(
    ("kinds", "two", "three", "numbers"),
    [
        (("change_case:lowercase", "change_case:uppercase"), 1.0, 0.0, {1}),
        (("change_case:lowercase", "startend:end_checker", "keywords:existence"), 0.0, 1.0, {3}),
        (("change_case:lowercase", "change_case:uppercase", "keywords:existence"), 0.5, 0.5, {1, 2}),
        (("change_case:lowercase", "startend:end_checker", "keywords:existence"), 0.4, 0.3, {1, 2, 3}),
    ],
    ids=["clash", "three", "no three without a clash", "all numbers"],
)
def test_a_prompt_demands_as_many_things_as_the_shares_say_and_as_go_together(part, kinds, two, three, numbers):
    rng = random.Random(0)
    section = InstructionsSection(kinds=kinds, two_share=two, three_share=three)
    drawn = [draw_demands(part, section, rng) for _ in range(60)]
    assert {len(demands) for demands in drawn} == numbers
    assert all(len({demand.kind for demand in demands}) == len(demands) for demands in drawn)


def test_shares_of_prompts_with_two_and_three_demands_are_one_together_at_most():
    with pytest.raises(ValidationError, match="three_share: found 0.6, expected at most 0.5"):
        InstructionsSection(two_share=0.5, three_share=0.6)


def test_a_run_gets_its_prompts_questions_and_sets_and_official_prompts_of_a_file_beside_them(tmp_path, monkeypatch):
    monkeypatch.setattr(letters, "_detectors", lambda: None)
    config = instructions_config(
        tmp_path, evaluation={"rows": 30, "seen_rows": 10}, meta={"prompts": 20, "responses": 2}
    )
    task = open_task(config)
    assert list(task.evaluation()) == config.data.set_names == ["instructions", "instructions_seen", "ifeval"]
    assert [len(of.rows) for of in task.evaluation().values()] == [30, 10, 1]
    assert {scorer.name for of in task.evaluation().values() for scorer in of.scorers} == {
        "constraints",
        "constraints, loose",
    }
    rounds = [row.prompt for number in (1, 2, 3) for row in task.prompts(number)]
    assert len(set(rounds)) == 120
    assert set(task.gold(2)) == {row.id for row in task.prompts(2)}
    assert task.scorer.faults(list(task.gold(2).values())) == [None] * 40
    assert (len(task.questions().rows), task.questions().samples) == (20, 2)
    assert "data.instructions.source" in task.files()
    assert any("'ifeval': 1 of 1 instructions are not scored" in said for said in task.notices())
    assert task.cut_for(config) is None


def test_where_prompts_come_in_an_order_a_round_that_never_comes_has_its_share_of_it(tmp_path):
    plain = instructions_config(tmp_path)
    two = plain.model_copy(update={"rounds": RoundsSection(number=2, order="easy_to_hard")})
    task, usual = open_task(two), open_task(plain)
    assert [task.prompts(round) for round in (1, 2, 3, 4)] == [*map(usual.prompts, (1, 2, 3)), []]
    first, second = ({row.id for row in given_prompts(two, task, round)} for round in (1, 2))
    assert first.isdisjoint(second)
    assert set(task.gold(3)) == {row.id for row in task.prompts(3)}


def test_a_prompt_of_a_file_is_none_of_those_whose_own_answers_are_taught(tmp_path):
    config = instructions_config(tmp_path, meta={"own_prompts": 2})
    own = open_task(config).questions().rows[-1].prompt
    file = tmp_path / "ifeval.jsonl"
    file.write_text(file.read_text().replace("Say it.", json.dumps(own)[1:-1]))
    with pytest.raises(DataError, match=r"evaluation.ifeval.*1 of its 1 prompts are also in data.instructions"):
        open_task(config)


def test_other_seeds_are_measured_on_the_same_rows_and_draw_other_prompts(tmp_path):
    one = instructions_config(tmp_path)
    other = one.model_copy(update={"seed": 8})
    first, second = open_task(one), open_task(other)
    assert first.evaluation()["instructions"].rows == second.evaluation()["instructions"].rows
    assert first.prompts(1) != second.prompts(1)
    assert first.questions() != second.questions()


def test_controls_are_near_misses_of_what_the_prompt_asks(tmp_path):
    task = open_task(instructions_config(tmp_path))
    rng = random.Random(0)
    gold = task.gold(1)
    for row in task.prompts(1):
        wrong = [task.scorer.spoil(row, text, rng) for text in TEXTS]
        assert any(wrong)
        assert not any(task.scorer.grade(gold[row.id], text).right for text in wrong if text)
    assert task.scorer.spoil(PromptRow("x", "Unknown."), TEXTS[0], rng) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"stories": {}}, "stories stands beside instructions"),
        ({"prompts": "p.jsonl"}, "instructions stands beside prompts"),
        ({"evaluation": {"instructions": "x.jsonl"}}, "evaluation.instructions: `instructions` has a set of this name"),
    ],
)
def test_what_does_not_go_beside_the_task_is_refused(data, words):
    with pytest.raises(ConfigError, match=words):
        parse_config({"run_dir": "x", "model": {"source": "a"}, "data": {"instructions": {}, **data}})


def test_wordings_are_each_once_and_every_kind_has_enough():
    assert set(CRAFTS) == set(WORDINGS) == set(TAUGHT)
    every = [*BRIEF, *(wording for wordings in WORDINGS.values() for wording in wordings)]
    assert len(set(every)) == len(every)
    assert min(map(len, WORDINGS.values())) >= 12
