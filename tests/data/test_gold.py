"""Gold answers that answers are compared with: what cannot be scored is refused by its row."""

import json
from pathlib import Path

import pytest

from selfevo_jax.data import read_scored
from selfevo_jax.errors import DataError


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
        read_scored(written(tmp_path / "held.jsonl", [1, gold]))


@pytest.mark.parametrize("gold", ["1e999", "-1e999"])
def test_a_number_beyond_those_of_json_is_refused_by_its_line(tmp_path: Path, gold: str) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text(f'{{"prompt": "e", "answer": {gold}}}\n')
    with pytest.raises(DataError, match=r"held\.jsonl:1, field 'answer': the number is too large"):
        read_scored(held)


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
    assert len(read_scored(written(tmp_path / "held.jsonl", golds))) == len(golds)
    for source in ("builtin:gsm8k/test", "builtin:gsm8k/train"):
        assert read_scored(source)
