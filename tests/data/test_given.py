"""Answers that are given are put beside their prompts, or refused by file and line."""

import json

import pytest

from selfevo_jax.data import PromptRow
from selfevo_jax.data.given import read_answers
from selfevo_jax.errors import DataError

PROMPTS = [PromptRow("1", "How are you?"), PromptRow("2", "Name a fruit.")]


def file(tmp_path, *rows):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_id_is_the_same_however_its_number_is_written_and_prompts_of_one_text_share_an_answer(tmp_path):
    rows = [{"question_id": 1.0, "answer": "Well"}, {"question_id": 2.0, "answer": "Pear"}]  # as pandas has whole ids
    assert read_answers(file(tmp_path, *rows), PROMPTS) == {"1": "Well", "2": "Pear"}
    twice = [*PROMPTS, PromptRow("3", "Name a  fruit.")]
    rows = [{"prompt": "Name a fruit.", "text": "Pear"}, {"prompt": "How are you?", "text": "Well"}]
    assert read_answers(file(tmp_path, *rows), twice) == {"1": "Well", "2": "Pear", "3": "Pear"}


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": 2, "response": "Pear"}, {"id": "1", "response": "Well"}, {"id": 9, "response": "?"}],
        [{"question_id": n, "choices": [{"index": 0, "turns": [t, "more"]}]} for n, t in ((1, "Well"), (2, "Pear"))],
        [{"instruction": "Name a  fruit.", "output": "Pear"}, {"instruction": "How are you?", "output": "Well"}],
        [{"prompt": "How are you?", "answer": "Well"}, {"prompt": "Name a fruit.", "text": "Pear"}],
        [{"idx": 1, "Instruction": "another wording", "answer": "Well"}, {"idx": 2, "answer": "Pear"}],
    ],
)
def test_answers_belong_to_the_prompt_of_their_id_or_text(tmp_path, rows):
    assert read_answers(file(tmp_path, *rows), PROMPTS) == {"1": "Well", "2": "Pear"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"id": 1, "answer": "a"}],
            r"field 'id': 1 of the 2 prompts have no answer here \(such as '2', 'Name a fruit.'",
        ),
        ([{"prompt": "x", "answer": "a"}], "field 'prompt': 2 of the 2 prompts have no answer"),
        ([{"id": 1, "answer": "a"}, {"id": 1, "answer": "b"}], ":2: a second answer to the prompt '1'"),
        ([{"id": 1, "answer": None}], ":1, field 'response': no answer in the row; expected text in one of"),
        ([{"id": 1, "answer": "a\ud800"}], ":1, field 'answer': half of a surrogate pair"),
        ([{"id": 1, "choices": [{"turns": []}]}], ":1, field 'choices': found .*, expected the turns"),
    ],
)
def test_answers_that_cannot_be_used_are_refused_by_file_and_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_answers(file(tmp_path, *rows), PROMPTS)
