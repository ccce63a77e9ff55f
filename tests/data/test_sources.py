"""Rows in: what is accepted, and the one clear line for each row that is not."""

import gzip
import json
import os

import pytest

from selfevo_jax.data.objects import builtin_sources
from selfevo_jax.data.sources import (
    MetaRow,
    PromptRow,
    QARow,
    read_meta,
    read_prompts,
    read_qa,
    write_jsonl,
)
from selfevo_jax.errors import DataError
from selfevo_jax.tasks import check_held_out

META = {"prompt": "2+2?", "response": "5", "feedback": "No.\nVerdict: incorrect", "refinement": "4", "good": False}


def _file(tmp_path, content, name="rows.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def _lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_the_three_kinds_of_rows_read_back_as_they_were_written(tmp_path):
    prompts = [PromptRow("a", "one\u2028two\x85three\nfour"), PromptRow("b", "é 漢 😀")]
    qa = [QARow("a", "2+2?", "4")]
    meta = [MetaRow("a", "p", "r", "f", "h", True), MetaRow("b", "p", "r", "f", "h", False, "wrong_result", 2)]
    for rows, read in ((prompts, read_prompts), (qa, read_qa), (meta, read_meta)):
        path = tmp_path / "new" / "rows.jsonl"
        write_jsonl(path, rows)
        assert read(path) == rows
        assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = _file(tmp_path, _lines({"prompt": "old"}))
    with pytest.raises(ValueError):
        write_jsonl(path, [{"prompt": "new"}, {"prompt": float("nan")}])
    assert [row.prompt for row in read_prompts(path)] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_unicode_line_separators_inside_a_string_do_not_end_the_row(tmp_path):
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    raw = json.dumps({"prompt": text}, ensure_ascii=False) + '\n{"prompt": "next"}\n'
    assert [row.prompt for row in read_prompts(_file(tmp_path, raw))] == [text, "next"]


def test_byte_order_mark_windows_line_ends_and_blank_lines_are_accepted(tmp_path):
    path = _file(tmp_path, b'\xef\xbb\xbf{"prompt": "one"}\r\n\r\n{"prompt": "two"}')
    assert [row.prompt for row in read_prompts(path)] == ["one", "two"]


def test_gsm8k_and_svamp_rows_are_understood(tmp_path):
    gsm8k = _file(tmp_path, _lines({"question": "q?", "answer": "1+1=<<1+1=2>>2\n#### 2"}))
    assert [(r.prompt, r.answer) for r in read_qa(gsm8k)] == [("q?", "1+1=<<1+1=2>>2\n#### 2")]
    assert [r.prompt for r in read_prompts(gsm8k)] == ["q?"]
    rows = [
        {"ID": "chal-1", "Body": "A pack costs 76", "Question": "How much?", "Answer": 51.0, "Type": "Subtraction"},
        {"ID": "chal-2", "Body": "He has 3.", "Question": "And now?", "Answer": 0.5},
    ]
    svamp = _file(tmp_path, json.dumps(rows, indent=2), "svamp.json")
    assert read_qa(svamp) == [
        QARow("chal-1", "A pack costs 76. How much?", "51"),
        QARow("chal-2", "He has 3. And now?", "0.5"),
    ]


def test_a_column_that_is_named_goes_before_that_of_a_known_data_set(tmp_path):
    row = {"ID": "1", "Body": "A pack", "Question": "How much?", "Answer": 2, "checked": 3, "key": "k"}
    found = read_qa(_file(tmp_path, _lines(row)), columns={"answer": "checked", "id": "key"})
    assert found == [QARow("k", "A pack. How much?", "3")]


USER, REPLY = {"role": "user", "content": "q?"}, {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "completion": [REPLY]},
        {"prompt": "q?", "completion": "4"},
        {"messages": [USER, REPLY, {"role": "user", "content": "and then?"}]},
        {"messages": [USER, {"role": "assistant", "content": "5"}], "answer": 4},
    ],
)
def test_rows_of_trl_are_understood(tmp_path, row):
    path = _file(tmp_path, _lines(row))
    assert [(r.prompt, r.answer) for r in read_qa(path)] == [("q?", "4")]
    assert [r.prompt for r in read_prompts(path)] == ["q?"]


def test_an_id_left_out_depends_on_the_text_alone(tmp_path):
    one = read_prompts(_file(tmp_path, _lines({"prompt": "a"}, {"prompt": "b"}), "1.jsonl"))
    two = read_qa(_file(tmp_path, _lines({"question": "b", "answer": 1}, {"question": "a", "answer": 1}), "2.jsonl"))
    assert [row.id for row in one] == [row.id for row in reversed(two)]
    meta = read_meta(_file(tmp_path, _lines(META, META | {"response": "6"}), "3.jsonl"))
    assert len({row.id for row in meta}) == 2


def test_a_file_that_is_not_there_is_told_with_the_one_beside_it_that_may_be_meant(tmp_path):
    _file(tmp_path, "", "prompts.jsonl")
    with pytest.raises(DataError, match=r"promts.jsonl: no such file .did you mean .*/prompts.jsonl.*; name one"):
        read_prompts(tmp_path / "promts.jsonl")


def test_skip_and_limit_take_a_window(tmp_path):
    path = _file(tmp_path, _lines(*({"prompt": str(i)} for i in range(1, 8))))
    assert [row.prompt for row in read_prompts(path, skip=2, limit=3)] == ["3", "4", "5"]
    with pytest.raises(DataError, match="skip 7 leaves none of its 7 rows"):
        read_prompts(path, skip=7)
    with pytest.raises(DataError, match="limit 0"):
        read_prompts(path, limit=0)


@pytest.mark.parametrize(
    ("content", "read", "message"),
    [
        ("", read_prompts, r"rows\.jsonl: has no rows"),
        ("\n \n", read_prompts, "has no rows"),
        ('{"prompt": "a"}\n{"prompt": "b', read_prompts, r":2: is no JSON at column 12.*cut off"),
        ('{"prompt": "a"} {"prompt": "b"}\n', read_prompts, r":1: is no JSON at column 17"),
        ('{"prompt": "a"}\n["a"]\n', read_prompts, r':2: found \["a"\], expected a JSON object'),
        ('{"prompt": "a"}\n{"text": "a"}\n', read_prompts, r":2, field 'prompt' or 'question': is missing.*: text"),
        ('{"prompt": 3}\n', read_prompts, ":1, field 'prompt': found 3, expected text"),
        ('{"prompt": " "}\n', read_prompts, ":1, field 'prompt': the text is empty"),
        ('{"prompt": "\\ud800"}\n', read_prompts, ":1, field 'prompt': half of a surrogate pair"),
        ('{"prompt": null}\n', read_prompts, ":1, field 'prompt': found null, expected text"),
        (
            _lines({"messages": [{"role": "system", "content": "Be kind."}, USER]}),
            read_prompts,
            ":1, field 'prompt': found .*, expected text, or messages of which the first is the user's.*format.system",
        ),
        (_lines({"messages": json.dumps([USER])}), read_prompts, ":1, .* found messages that are written as a text"),
        (_lines({"prompt": str([USER, REPLY])}), read_prompts, "messages that are written as a text"),
        ("What is 1+1?\n", read_prompts, r":1: is no JSON .* one object a line such as .*\.csv or \.tsv$"),
        ("prompt,answer\na,1\n", read_prompts, r":1: is no JSON .*\.csv or \.tsv$"),
        ('{"prompt": "a"}\nb\n', read_prompts, "expected one object a line$"),
        ('{"prompt": "a", "id": true}\n', read_prompts, ":1, field 'id': found true, expected text"),
        ('{"prompt": "a", "prompt": "b"}\n', read_prompts, ":1: the field 'prompt' is given twice"),
        ('{"prompt": "a", "answer": NaN}\n', read_qa, ":1: NaN is no JSON number"),
        ('{"prompt": "a"}\n', read_qa, ":1, field 'answer': is missing"),
        ('{"prompt": "a", "answer": ["4"]}\n', read_qa, r""":1, field 'answer': found \["4"\], expected text"""),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', read_prompts, ":2: byte 13 of the line is not UTF-8"),
        ('{"id": "x", "prompt": "a"}\n\n{"id": "x", "prompt": "b"}\n', read_prompts, ":3, field 'id'.*of line 1 too"),
        ('{"prompt": "a"}\n{"prompt": "a"}\n', read_prompts, ":2: has the prompt of line 1; remove one of the two"),
        ("[" * 100000 + "\n", read_prompts, ":1: "),
        ('\n[\n{"prompt": "a"}]\n', read_prompts, ":2: found a JSON list, expected one object a line; name .* .json"),
        ('[{"prompt": "a"}]\n', read_prompts, ":1: found a JSON list"),
        ('{"q": "a"}\n{"q": "b"}\n', read_prompts, r":1, .* is missing.*: q; .*rows.jsonl, columns: {prompt: FIELD}}"),
        (_lines(META | {"good": "false"}), read_meta, """:1, field 'good': found "false", expected true or false"""),
        (_lines(META | {"good": 1}), read_meta, ":1, field 'good': found 1, expected true or false"),
        (_lines(META | {"step": 1.5}), read_meta, ":1, field 'step': found 1.5, expected a whole number"),
        (_lines({k: v for k, v in META.items() if k != "feedback"}), read_meta, ":1, field 'feedback': is missing"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path, content, read, message):
    path = _file(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}', ":1: a .json file must be one list"),
        ('[{"prompt": "a"},\n {"prompt": 3}]', ":2, field 'prompt'"),
        ('[{"prompt": "a"},\n {"prompt": "b"}', ":2: the list is cut off"),
        ('[{"prompt": "a"},\n\n {"prompt": "b', ":3: is no JSON"),
        ("[]", "has no rows"),
        ('[{"prompt": "a"}]\n\n[{"prompt": "b"}]', ":3: something stands behind the list"),
        ('[{"prompt": "a"}] # all', ":1: something stands behind the list"),
    ],
)
def test_a_bad_row_of_a_json_list_is_named_by_its_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_prompts(_file(tmp_path, content, "rows.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b'{"prompt": "a"}', mtime=0), "is compressed by gzip; unpack it"),
        (b"PK\x03\x04\x14\x00\x9f\n", "is a zip archive or a spreadsheet"),
        (b"PAR1\x15\xff", "is a Parquet file; name it .parquet"),
        ('{"prompt": "a"}'.encode("utf-16"), "is UTF-16; save the file as UTF-8"),
        (b'{"prompt": "\xe9"}', "byte 13 of the line is not UTF-8"),
    ],
    ids=["gzip", "zip", "parquet", "UTF-16", "Latin-1"],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.CSV"])
def test_a_file_of_another_kind_is_told_by_what_it_begins_with(tmp_path, content, message, name):
    with pytest.raises(DataError, match=f"{name}:1: {message}"):
        read_prompts(_file(tmp_path, content, name))


def test_a_source_that_is_not_there_is_named_with_what_there_is(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read_prompts(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="rows are read again later; save them as a file"):
        read_prompts(tmp_path / "pipe")
    with pytest.raises(DataError, match="builtin:gsm8k/test"):
        read_prompts("builtin:gsm8k/nothing")
    with pytest.raises(DataError, match="no such slice"):
        read_prompts("builtin:../assets/gsm8k/test")
    _file(tmp_path, b'{"prompt": "mine"}', "mine.jsonl")
    with pytest.raises(DataError, match="no such slice"):
        read_prompts(f"builtin:{tmp_path}/mine")


def test_the_shipped_slices_share_no_question():
    assert {"builtin:gsm8k/prompts", "builtin:gsm8k/test", "builtin:gsm8k/train"} <= set(builtin_sources())
    slices = [{row.prompt for row in read_qa(f"builtin:gsm8k/{name}")} for name in ("train", "prompts", "test")]
    assert [len(rows) for rows in slices] == [320, 64, 96]
    assert len(set().union(*slices)) == 480


def test_rows_of_open_ended_sets_are_understood(tmp_path):
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["Write a post.", "Now rewrite it."]},
        {"idx": 7, "Skill": "Math", "Difficulty": 3, "Instruction": "f(4) ="},
        {"id": "seed_1", "instruction": "What relates them?", "instances": [{"input": "Day : Night\n", "output": "o"}]},
        {"instruction": "Name a fruit.", "input": "", "output": "Pear"},
    ]
    found = [(row.id, row.prompt) for row in read_prompts(_file(tmp_path, _lines(*rows)))]
    assert found[:3] == [("81", "Write a post."), ("7", "f(4) ="), ("seed_1", "What relates them?\n\nDay : Night")]
    assert found[3][1] == "Name a fruit."
    with pytest.raises(DataError, match="field 'prompt': found null, expected text"):
        read_prompts(_file(tmp_path, _lines({"question_id": 1, "turns": []})))


def test_the_shipped_open_ended_prompts_are_whole():
    assert len(read_prompts("builtin:vicuna/questions")) == 80
    assert len(read_prompts("builtin:self_instruct/seed_tasks")) == 175


def test_the_shipped_ordinary_answers_are_of_no_prompt_that_a_shipped_task_is_made_of():
    rows = read_qa("builtin:self_instruct/ordinary")
    assert len(rows) == 92
    assert all(row.answer.strip() for row in rows)
    for used in ("instructions/base", "self_instruct/rated", "vicuna/questions", "gsm8k/prompts", "gsm8k/train"):
        others = read_prompts(f"builtin:{used}")
        assert not {row.id for row in rows} & {row.id.removesuffix("-good") for row in others}
        check_held_out("ordinary", rows, {"prompts": others})
