"""What a user's files are is found out by their names and by what is in them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from selfevo_jax.data import MetaRow
from selfevo_jax.errors import DataError
from selfevo_jax.scorers.regex import Regex
from selfevo_jax.start.columns import META, Fields
from selfevo_jax.start.found import LOOSE, find_gold, find_meta, find_prompts, judge_of


def jsonl(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "p"}, {}),
        ({"question": "p", "answer": "4"}, {}),
        ({"Body": "b", "Question": "q"}, {}),
        ({"instruction": "i", "input": ""}, {}),
        ({"Problem": "p", "level": 3}, {"prompt": "Problem"}),
        ({"id": "1", "task": "p"}, {"prompt": "task"}),
        ({"Prompt": "p", "The: Answer #1": "3"}, {"prompt": "Prompt"}),
        ({"Question": "p", "Answer": "3"}, {"prompt": "Question"}),
    ],
)
def test_prompts_are_found_under_the_names_that_others_give_them(tmp_path: Path, row: dict, columns: dict) -> None:
    found, rows = find_prompts(jsonl(tmp_path / "p.jsonl", row), {})
    assert found.columns == columns
    assert len(rows) == 1
    assert found.section() == (found.source if not columns else {"source": found.source, "columns": columns})


def test_a_field_that_holds_no_text_is_no_prompt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'prompt' or 'question': is missing"):
        find_prompts(jsonl(tmp_path / "p.jsonl", {"task": 3, "content": ["a"]}), {})
    named = jsonl(tmp_path / "q.jsonl", {"words": "p"})
    assert find_prompts(named, {"prompt": "words"})[0].columns == {"prompt": "words"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feedback": None}, "p.jsonl:2, field 'feedback': found null, expected text"),
        ({"prompt": ""}, "p.jsonl:2, field 'prompt': the text is empty; fill it in or remove the row"),
        ({"good": "yes"}, "p.jsonl:2, field 'good': found \"yes\", expected true or false"),
    ],
)
def test_where_one_row_of_d_meta_is_faulty_that_row_is_named_and_no_other_column(tmp_path, changes, said) -> None:
    row = {"prompt": "p", "response": "r", "feedback": "Verdict: correct", "refinement": "r", "good": True}
    with pytest.raises(DataError) as seen:
        find_meta(jsonl(tmp_path / "p.jsonl", row, row | changes), {}, 0)
    assert str(seen.value).endswith(said)


@pytest.mark.parametrize(
    ("rows", "kind", "columns"),
    [
        ([{"prompt": "a", "answer": 4}, {"prompt": "b", "answer": "1,250"}], "number", {}),
        ([{"problem": "a", "gold": "#### 4"}], "number", {"prompt": "problem", "answer": "gold"}),
        ([{"question": "a", "choices": ["x", "y"], "answer": 1}], "choice", {}),
        ([{"question": "a", "answer": "B"}, {"question": "b", "answer": "C"}], "choice", {}),
        ([{"prompt": "a", "target": "Paris"}], "exact", {"answer": "target"}),
        ([{"prompt": "a", "output": "a long text of many words that nobody would repeat"}], "open_ended", {}),
        ([{"prompt": "a"}], "open_ended", {}),
        ([{"prompt": "a", "instruction_id_list": [], "kwargs": []}], "constraints", {}),
    ],
)
def test_gold_answers_say_what_can_grade_them(tmp_path: Path, rows: list, kind: str, columns: dict) -> None:
    found, _ = find_gold(jsonl(tmp_path / "e.jsonl", *rows), {})
    assert (found.kind, found.columns) == (kind, columns)


@pytest.mark.parametrize(
    ("answers", "scorer"),
    [
        (["Paris", "New York"], {"kind": "exact", "punctuation": False}),
        ([["Paris", "City of Light"]], {"kind": "exact", "punctuation": False}),
        (["Paris", "St. Gallen"], "exact"),
        ([4, 5], "number"),
    ],
)
def test_punctuation_counts_only_where_a_gold_answer_has_some(tmp_path: Path, answers: list, scorer: object) -> None:
    rows = [{"prompt": str(n), "answer": answer} for n, answer in enumerate(answers)]
    assert find_gold(jsonl(tmp_path / "e.jsonl", *rows), {})[0].scorer == scorer


def test_a_few_labels_are_found_in_a_sentence_and_a_text_that_names_two_has_no_answer(tmp_path: Path) -> None:
    def scorer(*labels: str) -> Any:
        rows = [{"prompt": str(n), "answer": labels[n % len(labels)]} for n in range(20)]
        return find_gold(jsonl(tmp_path / "e.jsonl", *rows), {})[0].scorer

    said = re.compile(Regex(**scorer("relevant", "Not relevant")).pattern)
    for text, label in {
        "RELEVANT": "RELEVANT",
        "This is not relevant.\nSo: Not relevant!": "not relevant",
        "It is relevant, and\nrelevant again.": "relevant",
        "Relevant or not relevant?": None,
        "It is not relevant; no: relevant.": None,
        "irrelevant": None,
    }.items():
        match = said.search(text)
        assert (match and match[1]) == label, text
    assert scorer("A", "B") == "choice"
    for others in (["Paris"], ["+", "-"], [f"city {name}" for name in "abcdefghi"], ["yes", ["no"]]):
        assert scorer(*others) in (LOOSE, "exact")


META_ROW = {"prompt": "p", "response": "5", "feedback": "No. Verdict: incorrect", "refinement": "4", "good": False}


def test_d_meta_is_told_from_worked_solutions_and_equations(tmp_path: Path) -> None:
    renamed = {
        "query": "p",
        "draft": "5",
        "critique": "No. Verdict: incorrect",
        "revision": "4",
        "is_correct": False,
    }
    found = find_meta(jsonl(tmp_path / "m.jsonl", renamed), {}, 0)
    assert found.kind == "meta_skill"
    assert dict(zip(renamed, META, strict=True)) == {theirs: ours for ours, theirs in found.columns.items()}
    assert find_meta("builtin:gsm8k/train", {}, 0).kind == "meta_from_solutions"
    assert find_meta("builtin:svamp/meta", {}, 0).kind == "meta_from_equations"
    with pytest.raises(DataError, match="no rows of D_meta .* no worked solutions .* fields are: prompt, answer"):
        find_meta(jsonl(tmp_path / "a.jsonl", {"prompt": "p", "answer": "4"}), {}, 0)
    with pytest.raises(DataError, match="'refinement': is missing"):
        find_meta(jsonl(tmp_path / "b.jsonl", {k: v for k, v in META_ROW.items() if k != "refinement"}), {}, 0)


def test_the_judge_is_the_one_that_reads_what_the_rows_say_of_themselves() -> None:
    def rows(*said: tuple[str, bool]) -> list[MetaRow]:
        return [MetaRow(str(n), "p", "r", text, "x", good) for n, (text, good) in enumerate(said)]

    assert judge_of(rows(("Verdict: correct", True), ("Verdict: incorrect", False))) == {"kind": "verdict"}
    assert judge_of(rows(("Rating: 10/10", True), ("Rating: 2/10", False))) == {"kind": "rating"}
    assert judge_of(rows(("Rating: 6/10", True), ("Rating: 5/10", False))) == {"kind": "rating", "good_rating": 6.0}
    assert judge_of(rows(("well", True), ("Rating: 5/10", False))) is None


def test_fields_of_a_table_of_texts_are_recognised(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("question,response,feedback,refinement,correct\np,5,Verdict: incorrect,4,false\n")
    assert Fields.of(str(table)).columns(META, {}) == {"good": "correct"}
