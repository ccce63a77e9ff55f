"""D_meta of verifiable instructions: rows of given responses, what is shortened, the base's own answers."""

import random
import re

import pytest
from instruction_helpers import TEXTS, instructions_config, rows_of

from selfevo_jax.data.instructions_section import InstructionsSection
from selfevo_jax.scorers.constraints import Constraints
from selfevo_jax.tasks import Answer, open_task
from selfevo_jax.tasks.instructions import (
    build_meta,
    split,
)
from selfevo_jax.tasks.instructions.meta import first_sentences
from selfevo_jax.tasks.instructions.wordings import WORDINGS
from selfevo_jax.text import VerdictRule, parse_verdict


def _responses(texts):
    return {prompt: [Answer("", n, text, True) for n, text in enumerate(given)] for prompt, given in texts.items()}


@pytest.fixture(scope="module")
def built(base):
    section = InstructionsSection(meta={"rows": 300, "prompts": 120})
    part = split(base, section).meta
    rows = rows_of(part, 120, section)
    rng = random.Random(3)
    responses = {row.prompt: [f"{rng.choice(TEXTS)} Part {n}."] for n, row in enumerate(rows)}
    responses |= {rows[0].prompt: ["Too short.", "long " * 80], rows[1].prompt: [next(iter(responses.values()))[0]]}

    def build(seed):
        return build_meta(rows, _responses(responses), part, section, seed)

    return section.meta, build, {text for texts in responses.values() for text in texts}


def test_d_meta_holds_the_shares_and_the_same_seed_gives_the_same_rows(built):
    settings, build, _ = built
    found = build(5)
    assert found == build(5)
    assert found.rows != build(6).rows
    assert len(found.rows) == 300 == len({row.id for row in found.rows})
    assert sum(row.good for row in found.rows) == round(300 * settings.right_share)
    assert (found.counts["too short"], found.counts["too long"]) == (1, 1)
    assert found.counts["responses"] == 119


def test_d_meta_says_the_truth_and_refines_to_what_is_right(built):
    _, build, given = built
    rows = build(5).rows
    for row in rows:
        assert parse_verdict(row.feedback, VerdictRule()).good is row.good
        assert ("wrong." in row.feedback) is not row.good
        assert (row.error is None) is row.good
        assert (row.refinement == row.response) is row.good
    wrong = [row for row in rows if not row.good]
    assert sum(row.response in given for row in wrong) == pytest.approx(len(wrong) * 0.38 / 0.58, abs=2)


def test_refinements_and_right_responses_meet_what_the_prompt_asks(base):
    section = InstructionsSection(meta={"demands_per_response": 1, "right_share": 0.5, "near_share": 0.0})
    part = split(base, section).meta
    row = rows_of(part, 1, section)[0]
    found = build_meta([row], _responses({row.prompt: list(TEXTS)}), part, section, 0)
    assert found.rows
    for meta in found.rows:
        assert meta.prompt == row.prompt
        assert Constraints().grade(row, meta.refinement).right
        assert Constraints().grade(row, meta.response).right is meta.good


def test_where_one_sort_is_scarce_fewer_rows_are_taken_of_all(base):
    section = InstructionsSection()
    part = split(base, section).meta
    rows = rows_of(part, 3, section)
    responses = {row.prompt: [TEXTS[n]] for n, row in enumerate(rows)}
    found = build_meta(rows, _responses(responses), part, section, 0)
    assert 10 < len(found.rows) < 40
    assert sum(row.good for row in found.rows) == pytest.approx(0.42 * len(found.rows), abs=1)
    assert build_meta(rows, {}, part, section, 0).rows == []


def test_what_the_base_answers_to_prompts_without_demands_is_taught_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = instructions_config(tmp_path, meta={"prompts": 8, "own_prompts": 5, "responses": 2})
    task = open_task(config)
    questions = task.questions()
    assert len(questions.rows) == 13
    demanded, plain = questions.rows[:8], questions.rows[8:]
    answers = [Answer(row.id, 0, f"A text of the base to number {n}.", True) for n, row in enumerate(demanded)]
    answers += [Answer(row.id, 0, f"Its own words about number {n}.", n != 1) for n, row in enumerate(plain)]
    answers += [Answer(plain[0].id, 1, "Short.", True), Answer(plain[2].id, 1, "Its own words about number 0.", True)]
    built = task.meta_rows(answers)
    assert [(row.prompt, row.answer) for row in built.own] == [
        (plain[n].prompt, f"Its own words about number {n}.") for n in (0, 2, 3, 4)
    ]
    assert built.counts["answers without demands"] == 4
    assert {row.prompt for row in built.rows}.isdisjoint(row.prompt for row in plain)


def test_answers_that_a_limit_cut_off_are_shortened_to_whole_sentences(tmp_path):
    task = open_task(instructions_config(tmp_path, meta={"prompts": 12, "demands_per_response": 1}))
    rows = task.questions().rows
    answers = [Answer(row.id, 0, f"Here is answer {n} of many. And th", n % 2 == 0) for n, row in enumerate(rows)]
    answers[1] = Answer(rows[1].id, 0, "Without any end of a sentence", False)
    built = task.meta_rows(answers)
    counts = built.counts
    assert (counts["responses"], counts["shortened"], counts["too long"]) == (11, 5, 1)
    cut = {row.prompt for row, answer in zip(rows, answers, strict=True) if not answer.finished}
    for shortened in (True, False):
        of = [row.response.lower() for row in built.rows if (row.prompt in cut) is shortened]
        assert of
        assert any("and th" in text for text in of) is not shortened


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("One is here. Two is there. Three is", 40, "One is here. Two is there."),
        ("One is here. Two is there.", 20, "One is here."),
        ("1. Salt\n2. Pepper and", 40, ""),
        ('He said "Stop it!" Then the', 40, 'He said "Stop it!"'),
        ("Born in the U.S. A man of 3.5 metres", 40, ""),
        ("Is it so? Yes", 40, "Is it so?"),
        ("Is it so?! Yes", 40, "Is it so?!"),
        ("I met Dr. Smith and Mrs. Lee of St. Ives", 40, ""),
        ("Bring salt, oil, etc. and then", 40, ""),
        ("Call it at 5 p.m. or later", 40, ""),
        ("10. Salt\n11. Pepper\n12. Oil", 40, ""),
        ("It was in 1910. Then", 40, "It was in 1910."),
        ('They call it "love". Then', 40, 'They call it "love".'),
        ("It is big (see below). Then", 40, "It is big (see below)."),
        ("It is **big.** And", 40, "It is **big.**"),
        ("One is here. And then... Well", 40, "One is here."),
        ("One is here.\n\n- Two", 40, "One is here."),
        ("", 40, ""),
    ],
)
def test_what_is_kept_of_a_text_ends_where_a_sentence_ends(text, most, kept):
    assert first_sentences(text, most) == kept


def test_with_quoted_demands_feedback_has_each_demand_in_the_words_of_its_prompt(tmp_path):
    built = {}
    for quote in (False, True):
        task = open_task(instructions_config(tmp_path, meta={"prompts": 12, "quote_demands": quote}))
        rows = {row.prompt: row for row in task.questions().rows}
        answers = [Answer(row.id, 0, f"{TEXTS[n % 6]} {n}", True) for n, row in enumerate(rows.values())]
        built[quote] = task.meta_rows(answers).rows
    assert len(built[False]) == len(built[True]) > 12
    for plain, quoting in zip(built[False], built[True], strict=True):
        left = quoting.feedback
        demands = _texts_of_demands(quoting.prompt)
        for place, demand in enumerate(sorted(demands, key=quoting.prompt.index), 1):
            assert f"{place}. {demand} Need" in left
            left = left.replace(f"{place}. {demand} ", "", 1)
        assert left == plain.feedback


def _texts_of_demands(prompt):
    """The sentences of a prompt that are wordings of a demand, whatever they are filled with."""
    forms = [
        re.sub(r"\\\{\w+\\\}", '[^"]+', re.escape(w)) for kind in InstructionsSection().kinds for w in WORDINGS[kind]
    ]
    return [found[0] for form in forms for found in re.finditer(form, prompt)]
