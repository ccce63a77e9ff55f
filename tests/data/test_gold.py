"""Gold answers that answers are compared with: what cannot be scored is refused by its row."""

import json
from pathlib import Path

import pytest

from selfevo_jax.data import read_evaluation, read_gold
from selfevo_jax.errors import DataError
from selfevo_jax.scorers.choice import Choice
from selfevo_jax.scorers.exact import Exact
from selfevo_jax.scorers.number import Number


def written(path: Path, answers: list) -> str:
    path.write_text("".join(json.dumps({"prompt": f"p{i}", "answer": a}) + "\n" for i, a in enumerate(answers)))
    return str(path)


BAD = [
    "Paris",
    "$\\sqrt{2}$",
    "x=2,y=3",
    "10^6",
    "2 or 3",
    "[1, 2]",
    "1/0",
    "May 5, 2020",
    "12:30",
    "9" * 4000,
    "#### none",
]


@pytest.mark.parametrize("gold", [*BAD, int("9" * 4000)], ids=range(len(BAD) + 1))
def test_a_gold_answer_that_cannot_be_scored_is_refused_by_file_line_and_remedy(tmp_path: Path, gold: object) -> None:
    with pytest.raises(
        DataError, match=r"held\.jsonl:2, field 'answer': found .*, expected one number .*'#### 18'.*remove"
    ):
        read_evaluation(written(tmp_path / "held.jsonl", [1, gold]), [Number()])


def test_a_column_with_half_a_character_is_refused_by_its_line_since_texts_are_written_with_it(tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text('{"prompt": "e", "answer": 5, "from": ["x", "\\ud800"]}\n')
    with pytest.raises(DataError, match=r"held\.jsonl:1, field 'from': half of a surrogate pair"):
        read_evaluation(held, [Number()])


@pytest.mark.parametrize("gold", ["1e999", "-1e999"])
def test_a_number_beyond_those_of_json_is_refused_by_its_line(tmp_path: Path, gold: str) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text(f'{{"prompt": "e", "answer": {gold}}}\n')
    with pytest.raises(DataError, match=r"held\.jsonl:1, field 'answer': the number is too large"):
        read_evaluation(held, [Number()])


def test_gold_answers_in_every_written_form_are_scored(tmp_path: Path) -> None:
    golds = [
        "18",
        18,
        18.5,
        "$1,250.50",
        "-3/4",
        "25%",
        "12 km",
        "5 + 3 = 8\n#### 8",
        r"\boxed{\frac{1}{2}}",
        "1e3",
        "x = 5",
    ]
    assert len(read_evaluation(written(tmp_path / "held.jsonl", golds), [Number()]).rows) == len(golds)
    for source in ("builtin:gsm8k/test", "builtin:gsm8k/train"):
        assert read_evaluation(source, [Number()]).rows


def test_a_gold_answer_that_says_the_same_as_its_prompt_is_one(tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text('{"question": "He goes home.", "answer": "He goes home."}\n')
    (row,) = read_evaluation(held, [Exact()]).rows
    assert row.columns == {"answer": "He goes home."}
    assert read_gold(held, Exact()).missing == 0


def test_a_row_is_refused_for_the_scorer_that_cannot_read_it(tmp_path: Path) -> None:
    held = written(tmp_path / "held.jsonl", ["A", "B", "18"])
    assert len(read_evaluation(held, [Exact()]).rows) == 3
    with pytest.raises(DataError, match=r"held.jsonl:3, field 'answer': found \"18\".*\(for the scorer 'choice'\)"):
        read_evaluation(held, [Exact(), Choice()])


def test_all_that_a_row_has_is_a_column_and_a_map_gives_columns_our_names(tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    fields = {"question": "q", "problem": "p", "options": ["x", "y"], "target": 1, "key": 7}
    held.write_text(json.dumps(fields) + "\n")
    (row,) = read_evaluation(held, [Choice()], columns={"answer": "target", "choices": "options"}).rows
    assert (row.prompt, row.columns) == ("q", {"problem": "p", "key": 7, "choices": ["x", "y"], "answer": 1})
    (row,) = read_evaluation(held, [], columns={"prompt": "problem", "id": "key"}).rows
    assert (row.prompt, row.id, row.columns.keys()) == ("p", "7", {"question", "options", "target"})


def test_gold_of_prompts_is_read_by_the_scorer_and_what_it_cannot_read_is_counted(tmp_path: Path) -> None:
    prompts = written(tmp_path / "prompts.jsonl", ["A", None, "Paris", 2])
    found = read_gold(prompts, Choice())
    assert [row.columns["answer"] for row in found.rows.values()] == ["A", 2]
    assert (found.missing, len(found.unscorable)) == (1, 1)
    assert "prompts.jsonl:3, field 'answer': found \"Paris\"" in found.unscorable[0]
    elsewhere = read_gold(prompts, Exact(), columns={"answer": "absent", "id": "prompt"})
    assert [row.columns["answer"] for row in elsewhere.rows.values()] == ["A", "Paris", 2]
