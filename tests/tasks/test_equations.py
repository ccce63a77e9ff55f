"""D_meta of bare answers to word problems: true, in the base's own words, balanced, and apart from the evaluation."""

import json
import random
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.config import load_config, parse_config
from selfevo_jax.data import read_prompts
from selfevo_jax.data.equations_section import EquationsSection
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.run.artefacts import ANSWERS, META_DATA, ROLLOUTS, is_read_by
from selfevo_jax.scorers.number import Number
from selfevo_jax.tasks import Answer, open_task
from selfevo_jax.tasks.equations import build_meta, read_problems
from selfevo_jax.tasks.equations.annotator import is_bare, near_miss, with_answer
from selfevo_jax.tasks.solutions.worked import work_out
from selfevo_jax.text import VerdictRule, extract_answer, parse_verdict

SVAMP = {part: f"builtin:svamp/{part}" for part in ("meta", "prompts", "test")}
FORMS = ["{}", "{} apples", "$ {}", "The answer is {}.", "He has {} left."]
SETTINGS = EquationsSection(source=SVAMP["meta"])


@pytest.fixture(scope="module")
def problems():
    return read_problems(SVAMP["meta"]).usable[:50]


@pytest.fixture(scope="module")
def answers(problems):
    rng = random.Random(0)
    return [
        Answer(problem.id, sample, rng.choice(FORMS).format(rng.choice([problem.answer, rng.randint(0, 99)])), True)
        for problem in problems
        for sample in range(4)
    ]


@pytest.fixture(scope="module")
def built(problems, answers):
    return build_meta(problems, answers, SETTINGS, None, 0)


def test_feedback_works_the_equation_out_and_its_verdict_is_true(built):
    gold = {row.prompt: row for row in read_problems(SVAMP["meta"]).usable}
    for row in built.rows:
        *sums, compared, verdict = re.split(r"(?<=\.) ", row.feedback)
        for done in sums:
            left, right = done.rstrip(".").split(" = ")
            assert eval(re.sub(r"(\d+)", r"Fraction(\1)", left)) == Fraction(right)  # python's own grammar
        answer = gold[row.prompt].answer
        assert Fraction(sums[-1].rstrip(".").split(" = ")[1]) == answer == extract_answer(row.refinement)
        assert compared == f"The answer says {extract_answer(row.response)}, it should be {answer}."
        assert row.good is (extract_answer(row.response) == answer)
        assert parse_verdict(verdict, VerdictRule()).good is row.good
        assert parse_verdict(row.feedback, VerdictRule()).good is row.good
        assert not row.good or row.refinement == row.response


def test_rows_have_their_shares_and_right_and_wrong_responses_differ_in_the_number_alone(built):
    sorts = Counter(row.error or "right" for row in built.rows)
    shares = {sort: n / len(built.rows) for sort, n in sorts.items()}
    assert shares == pytest.approx({"right": 0.45, "near miss": 0.2, "own": 0.35}, abs=0.01)
    assert len(built.rows) > 150
    forms = {
        good: {re.sub(r"\d+", "{}", row.response) for row in built.rows if row.good is good} for good in (True, False)
    }
    assert forms[True] == forms[False] == set(FORMS)
    assert len({(row.prompt, row.response) for row in built.rows}) == len(built.rows)


def test_the_same_answers_and_seed_give_the_same_rows_and_a_limit_keeps_the_shares(problems, answers, built):
    assert build_meta(problems, answers, SETTINGS, None, 0) == built
    assert build_meta(problems, answers, SETTINGS, None, 1).rows != built.rows
    few = build_meta(problems, answers, SETTINGS, 100, 0).rows
    assert (len(few), sum(row.good for row in few)) == (100, 45)


def test_what_is_no_bare_answer_is_left_out_and_counted(problems):
    id = problems[0].id
    texts = ["3 + 4 = 7", "none", "7\n8", "x" * 90 + " 7", "5", "5", " 5\n"]
    given = [Answer(id, n, text, True) for n, text in enumerate(texts)] + [Answer(id, 9, "6", False)]
    found = build_meta(problems, given, SETTINGS, None, 0)
    assert found.counts == {"not a bare number": 3, "too long": 1, "answers": 1, "copies": 2, "cut by a limit": 1}


@given(st.sampled_from(FORMS), st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=60)
def test_a_number_is_put_in_the_place_of_another(form, old, new):
    assert is_bare(form.format(old))
    assert with_answer(form.format(old), Fraction(new)) == form.format(new)


def test_a_near_miss_is_a_whole_number_and_never_the_answer(problems):
    kinds = set()
    for problem in problems:
        for seed in range(5):
            found = near_miss(problem, random.Random(seed))
            assert found is not None
            assert found != problem.answer
            assert found >= 0
            assert found.denominator == 1
            kinds.add(found in [done.value for done in problem.sums[:-1]])
    assert kinds == {True, False}


def test_sums_are_those_of_the_expression_in_the_order_of_working_out():
    value, sums = work_out("( ( 33.0 - 24.0 ) / 9.0 )")
    assert (value, list(map(str, sums))) == (1, ["33 - 24 = 9", "9 / 9 = 1"])
    assert list(map(str, work_out("19 - (4 + 2*3)")[1])) == ["2 * 3 = 6", "4 + 6 = 10", "19 - 10 = 9"]
    assert work_out("8.0") == (8, [])


def _words(row):
    return set(re.findall("[a-z]+", row["Body"].lower()))


def test_the_shipped_parts_tell_no_story_twice_and_have_small_whole_numbers():
    from selfevo_jax.data.objects import objects_of

    parts = {part: [row for _, row in objects_of(source)[1]] for part, source in SVAMP.items()}
    assert {part: len(rows) for part, rows in parts.items()} == {"meta": 185, "prompts": 298, "test": 211}
    for one, other in (("meta", "test"), ("meta", "prompts"), ("prompts", "test")):
        theirs = [_words(row) for row in parts[other]]
        for row in parts[one]:
            own = _words(row)
            assert all(len(own & words) < 0.6 * len(own | words) for words in theirs)
    for source in SVAMP.values():
        found = read_problems(source)
        assert found.faults == ()
        for problem in found.usable:
            for done in problem.sums:
                assert all(n.denominator == 1 and 0 <= n <= 100 for n in (done.left, done.right, done.value))


def test_rows_that_cannot_be_used_are_counted_with_the_first_one_named(tmp_path):
    rows = [{"prompt": "a", "equation": "3+4", "answer": 7}, {"prompt": "b", "equation": "8", "answer": 8}]
    rows += [{"prompt": "c", "equation": "3+4", "answer": 8}, {"prompt": "d", "equation": "x+4", "answer": 8}]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_problems(str(file))
    assert [problem.prompt for problem in found.usable] == ["a"]
    assert found.notice("data.x").startswith("3 of the 4 rows of data.x are not used (the first: ")
    assert "p.jsonl:2, field 'equation': found \"8\", expected a sum" in found.faults[0]
    assert "p.jsonl:3, field 'answer': found 8, but 3+4 is 7" in found.faults[1]
    file.write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        read_problems(str(file))
    file.write_text('{"prompt": "a", "sum": "3+4", "answer": 7}\n')
    with pytest.raises(
        DataError, match=r"p\.jsonl:1, field 'equation': is missing; the row has the fields: prompt, sum, answer"
    ):
        read_problems(str(file))
    assert read_problems(str(file), {"equation": "sum"}).faults == ()


def config(**data):
    data = {
        "prompts": SVAMP["prompts"],
        "meta_from_equations": SVAMP["meta"],
        "evaluation": {"svamp": SVAMP["test"]},
    } | data
    return parse_config({"run_dir": "x", "model": {"source": "builtin:stories"}, "data": data})


def test_a_run_asks_the_base_and_makes_d_meta_of_its_answers(answers):
    loaded = config(meta_from_equations={"source": SVAMP["meta"], "responses": 2}, meta_rows=60)
    assert parse_config(loaded.model_dump(mode="json")) == loaded
    assert loaded.data.has_meta
    assert not loaded.data.meta_from_file
    task = open_task(loaded)
    assert task.has_meta
    assert (len(task.questions().rows), task.questions().samples, task.questions().temperature) == (185, 2, 0.7)
    assert len(task.meta_rows(answers).rows) == 60
    assert task.files()["data.meta_from_equations"] == SVAMP["meta"]
    assert len(task.gold(1)) == len(task.prompts(1)) == 298
    assert {row.id for row in task.questions().rows}.isdisjoint(row.id for row in read_prompts(SVAMP["prompts"]))
    assert isinstance(task.scorer, Number)


def test_the_shipped_config_takes_each_prompt_once_and_every_row_of_its_files():
    task = open_task(load_config(Path(__file__).parents[2] / "configs" / "smollm2_arithmetic.yaml"))
    assert task.notices() == []
    assert len({row.id for round in (1, 2, 3) for row in task.prompts(round)}) == 297
    assert len(task.evaluation()["svamp"].rows) == 211


def test_a_run_refuses_problems_that_it_is_measured_on_and_two_sources_of_d_meta():
    with pytest.raises(
        DataError, match=r"data\.evaluation\.svamp.*211 of its 211 prompts are also in data\.meta_from_eq"
    ):
        open_task(config(meta_from_equations=SVAMP["test"]))
    with pytest.raises(
        ConfigError, match="name exactly one of meta_skill, meta_from_solutions and meta_from_equations"
    ):
        config(meta_from_solutions="builtin:gsm8k/train")


def test_the_shares_of_d_meta_may_change_without_asking_the_base_again():
    assert is_read_by("data.meta_from_equations.responses", {ANSWERS})
    assert is_read_by("data.meta_from_equations", {ANSWERS})
    assert not is_read_by("data.meta_from_equations.right_share", {ANSWERS})
    assert is_read_by("data.meta_from_equations.right_share", {META_DATA})
    assert not is_read_by("data.meta_from_equations", {ROLLOUTS})
