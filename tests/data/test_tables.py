"""The same rows from CSV, TSV, Parquet and JSON Lines; and the one clear line for each table that cannot be used."""

import csv
import io
import json
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.data import read_evaluation, read_gold, read_meta, read_prompts, read_qa
from selfevo_jax.data.given import read_answers
from selfevo_jax.data.objects import objects_of
from selfevo_jax.errors import DataError
from selfevo_jax.scorers.choice import Choice
from selfevo_jax.scorers.number import Number

KINDS = ("jsonl", "csv", "tsv", "parquet")


def written(folder, kind, rows):
    """Rows as a file of a kind; fields that a row has not are left empty in tables."""
    path = folder / f"rows.{kind}"
    names = list(dict.fromkeys(name for row in rows for name in row))
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, names, delimiter="," if kind == "csv" else "\t")
            table.writeheader()
            table.writerows(rows)
    return path


META = [
    {"p": "2+2?", "r": "5", "f": 'No,\n"four".\nVerdict: incorrect', "h": "4", "ok": False, "e": "wrong", "n": 1},
    {"p": "2\t+ 3?", "r": "5", "f": "Yes.\nVerdict: correct", "h": "5", "ok": True},
]
META_COLUMNS = dict(
    zip(("prompt", "response", "feedback", "refinement", "good", "error", "step"), META[0], strict=True)
)


def test_rows_are_the_same_from_every_kind_of_file_with_columns_of_any_name(tmp_path):
    files = {kind: written(tmp_path, kind, META) for kind in KINDS}
    found = [read_meta(file, columns=META_COLUMNS) for file in files.values()]
    assert found == [found[0]] * len(KINDS)
    capitals = [file.rename(file.with_name(f"CAPITALS.{kind.upper()}")) for kind, file in files.items()]
    assert [read_meta(file, columns=META_COLUMNS) for file in capitals] == found
    files = {kind: capital.rename(files[kind]) for kind, capital in zip(files, capitals, strict=True)}
    assert [(row.good, row.error, row.step) for row in found[0]] == [(False, "wrong", 1), (True, None, None)]
    pairs = {"prompt": "p", "answer": "r"}
    assert len({tuple(read_qa(file, columns=pairs)) for file in files.values()}) == 1
    assert len({tuple(read_prompts(file, columns={"prompt": "h"}, skip=1)) for file in files.values()}) == 1
    gold = [read_gold(file, Number(), own=pairs).rows.keys() for file in files.values()]
    assert gold == [gold[0]] * len(KINDS)
    prompts = read_prompts(files["csv"], columns={"prompt": "p"})
    answers = [read_answers(file, prompts, {"prompt": "p", "response": "h"}) for file in files.values()]
    assert answers == [{prompts[0].id: "4", prompts[1].id: "5"}] * len(KINDS)


def test_an_evaluation_set_of_a_table_is_scored_by_its_columns(tmp_path):
    rows = [
        {"id": 7, "ask": "Which?", "right": "B", "note": ""},
        {"id": 8, "ask": "And now?", "right": "A", "note": ""},
    ]
    for kind in KINDS:
        found = read_evaluation(
            written(tmp_path, kind, rows), [Choice()], columns={"prompt": "ask", "answer": "right"}
        ).rows
        assert [(row.id, row.columns["answer"]) for row in found] == [("7", "B"), ("8", "A")]
    with pytest.raises(DataError, match=r"rows\.csv:3, field 'answer': found \"Z\", expected a letter"):
        read_evaluation(
            written(tmp_path, "csv", [rows[0], rows[1] | {"right": "Z"}]),
            [Choice()],
            columns={"prompt": "ask", "answer": "right"},
        )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"prompt,id\none,1\n,2\n", r"a\.csv:3, field 'prompt': the text is empty"),
        ("a.csv", b'prompt,id\n"two\nlines",1\nx,1\n', r"a\.csv:4, field 'id': '1' is the id of line 2 too"),
        ("a.csv", b"prompt,id\none,1,2\n", r"a\.csv:2: has 3 cells, but line 1 names 2 columns \(prompt, id\); quote"),
        ("a.csv", b"prompt,prompt\na,b\n", r"a\.csv:1, field 'prompt': names two columns"),
        ("a.csv", b'prompt\n"one" more\n', r"a\.csv:2: is no row of cells \(.*\); a text with a quotation mark"),
        ("a.csv", b'prompt\nfine\n"cut off\n', r"a\.csv:3: is no row of cells"),
        ("a.csv", b"prompt\ncaf\xe9\n", r"a\.csv:2: byte 4 of the line is not UTF-8"),
        (
            "a.csv",
            b"ask;id\none;1\n",
            r"a\.csv:1: its columns are separated by ';', .* save it with ','",
        ),
        ("a.csv", b'\n"ask";"my id"\n"one";"1"\n', r"a\.csv:2: its columns are separated by ';'"),
        ("a.csv", b"ask\tid\none\t1\n", r"a\.csv:1: its columns are separated by tabs, .* name the file \.tsv"),
        ("a.tsv", b"ask,id\none,1\n", r"a\.tsv:1: its columns are separated by ',', .* has tabs; name the file \.csv"),
        ("a.csv", b"what (if any); is asked\none\n", r"a\.csv:2, field 'prompt' or 'question': is missing"),
        ("a.csv", b"prompt\n", r"a\.csv: has no rows"),
        ("a.tsv", b"id\task\n1\tone\n", r"a\.tsv:2, field 'prompt' or 'question': is missing"),
        ("a.parquet", b"PAR1 and no more", r"a\.parquet:1: not a readable row of a Parquet file"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_file_row_and_column(name, content, problem, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_prompts(tmp_path / name)


def test_a_fault_names_the_column_as_the_file_does(tmp_path):
    rows = [{"q": "one", "a": "1", "ok": "true"}, {"q": "two", "a": " ", "ok": "maybe"}]
    for kind, row in (("csv", 3), ("jsonl", 2), ("parquet", 2)):
        file = written(tmp_path, kind, rows)
        with pytest.raises(DataError, match=rf"rows\.{kind}:{row}, field 'a': the text is empty"):
            read_qa(file, columns={"prompt": "q", "answer": "a"})
        columns = {"prompt": "q", "response": "q", "feedback": "q", "refinement": "q", "good": "ok"}
        found = "maybe" if kind == "csv" else "true"  # only in a table of texts `true` is no text
        with pytest.raises(DataError, match=rf"field 'ok': found \"{found}\", expected true or false"):
            read_meta(file, columns=columns)


def test_a_column_that_no_row_has_is_refused_even_where_rows_could_be_read_without_it(tmp_path):
    for kind in KINDS:
        file = written(tmp_path, kind, [{"prompt": "one", "ask": "two"}])
        with pytest.raises(DataError, match="takes 'prompt' from 'question', which no row has; there are prompt, ask"):
            read_prompts(file, columns={"prompt": "question"})
        # the columns of an evaluation set need not be there in the file of prompts
        assert read_gold(file, Number(), columns={"answer": "target"}).missing == 1


def test_values_of_parquet_become_what_json_has(tmp_path):
    table = pa.table(
        {
            "prompt": pa.array([b"bytes"], pa.binary()),
            "number": [float("nan")],
            "money": [Decimal("2.50")],
            "day": [date(2026, 1, 2)],
            "list": [[1, 2]],
            "nested": [{"a": 0.5, "b": None}],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert list(objects_of(tmp_path / "a.parquet")[1]) == [
        (
            1,
            {
                "prompt": "bytes",
                "number": None,
                "money": 2.5,
                "day": "2026-01-02",
                "list": [1, 2],
                "nested": {"a": 0.5, "b": None},
            },
        )
    ]


def test_a_byte_order_mark_windows_line_ends_and_a_column_without_a_name_change_nothing(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf,prompt\r\n0,one\r\n\r\n1,two")
    assert [row.prompt for row in read_prompts(tmp_path / "a.csv")] == ["one", "two"]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)


@settings(max_examples=40)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4), st.sampled_from([",", "\t"]))
def test_any_text_that_python_writes_into_a_table_is_read_back(tmp_path_factory, rows, delimiter):
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter).writerows([("a", "b"), *rows])
    file = tmp_path_factory.mktemp("cells") / ("rows.csv" if delimiter == "," else "rows.tsv")
    file.write_bytes(written.getvalue().encode())
    assert [(row["a"], row["b"]) for _, row in objects_of(file)[1]] == rows
