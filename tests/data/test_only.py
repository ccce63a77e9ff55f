"""Evaluation sets of the rows that have certain values: those that have others are counted."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from scipy.stats import binomtest

from selfevo_jax.chains import Candidate, Rollout
from selfevo_jax.cli import measure
from selfevo_jax.config.load import parse_config
from selfevo_jax.data import read_evaluation
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.evaluate import score
from selfevo_jax.scorers.constraints import IDS, Constraints
from selfevo_jax.scorers.exact import Exact
from selfevo_jax.tasks import open_task

COVERED = ["change_case:english_lowercase", "keywords:existence", "startend:end_checker"]
IFEVAL = "builtin:ifeval/prompts"


def written(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps({"prompt": f"p{i}", "answer": "x"} | row) + "\n" for i, row in enumerate(rows)))
    return str(path)


def test_of_ifeval_those_prompts_are_taken_all_of_whose_instructions_are_named() -> None:
    found = read_evaluation(IFEVAL, [Constraints()], only={IDS: COVERED})
    assert str(found.selection) == "40 of 541 rows; 501 have other values of instruction_id_list"
    every = read_evaluation(IFEVAL, [Constraints()])
    assert every.selection is None
    assert len({row.prompt for row in every.rows}) == 541
    assert found.rows == [row for row in every.rows if set(row.columns[IDS]) <= set(COVERED)]


def test_a_limit_takes_the_first_of_the_rows_that_are_left() -> None:
    found = read_evaluation(IFEVAL, [Constraints()], only={IDS: COVERED}, limit=3)
    assert found.rows == read_evaluation(IFEVAL, [], only={IDS: COVERED}).rows[:3]
    assert found.selection is not None
    assert (found.selection.taken, found.selection.of) == (40, 541)


def test_rows_are_taken_by_all_columns_and_a_number_is_no_yes(tmp_path: Path) -> None:
    rows = [
        {"level": 1, "kind": "a"},
        {"level": 1.0, "kind": "b"},
        {"level": True, "kind": "a"},
        {"level": 2, "kind": "a"},
    ]
    held = written(tmp_path / "held.jsonl", rows)

    def taken(**only: list) -> list[str]:
        return [row.prompt for row in read_evaluation(held, [Exact()], only=only).rows]

    assert taken(level=[1]) == ["p0", "p1"]
    assert taken(level=[True]) == ["p2"]
    assert taken(level=[1, 2], kind=["a"]) == ["p0", "p3"]


def test_scorers_need_not_read_what_is_left_out(tmp_path: Path) -> None:
    held = written(tmp_path / "held.jsonl", [{"part": "sums"}, {"part": "proofs", "answer": None}])
    assert [row.prompt for row in read_evaluation(held, [Exact()], only={"part": ["sums"]}).rows] == ["p0"]
    with pytest.raises(DataError, match="held.jsonl:2, field 'answer'"):
        read_evaluation(held, [Exact()])


@pytest.mark.parametrize(
    ("only", "told"),
    [
        (
            {IDS: ["startend:end_cheker"]},
            f"'{IDS}': `only` names \"startend:end_cheker\", which no row has; did you mean 'startend:end_checker'",
        ),
        (
            {"level": [1]},
            f"prompts:1, field 'level': is missing; `only` names it, but the row has the fields: key, prompt, {IDS}",
        ),
        ({IDS: ["punctuation:no_comma"], "key": [1005]}, "takes none of its 541 rows"),
    ],
)
def test_a_setting_that_takes_nothing_or_names_what_is_not_there_is_refused(only: dict, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_evaluation(IFEVAL, [Constraints()], only=only)


def config(only: object) -> dict:
    rows = {"source": IFEVAL, "scorers": ["constraints", {"constraints": {"loose": True}}], "only": only}
    data = {"instructions": {}, "evaluation": {"ifeval": rows}}
    return {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": data}


def test_a_run_takes_the_covered_prompts_and_tells_how_many_it_leaves_out() -> None:
    loaded = parse_config(config({IDS: [*COVERED[1:]]}))
    assert parse_config(loaded.model_dump(mode="json")) == loaded
    task = open_task(loaded)
    assert len(task.evaluation()["ifeval"].rows) == 25
    assert task.notices() == ["evaluation set 'ifeval': 25 of 541 rows; 516 have other values of instruction_id_list"]
    assert parse_config(config({IDS: COVERED[1]})) == parse_config(config({IDS: [COVERED[1]]}))


@pytest.mark.parametrize("only", ["startend:end_checker", [IDS], {IDS: []}, {IDS: None}, {IDS: [{"a": 1}]}])
def test_what_names_no_values_of_a_column_is_refused_by_its_key(only: object) -> None:
    with pytest.raises(ConfigError, match=r"data\.evaluation\.ifeval\.only"):
        parse_config(config(only))


def test_eval_says_ifevals_four_figures_and_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    of = open_task(parse_config(config({IDS: COVERED[2]}))).evaluation()["ifeval"]
    phrases = [row.columns["kwargs"][0]["end_phrase"] for row in of.rows]
    texts = [phrase if number % 2 else f"{phrase}\nBye." for number, phrase in enumerate(phrases)]
    rows = [
        Rollout(row.id, 0, row.prompt, (Candidate(text, "stop", (1,)),), 0)
        for row, text in zip(of.rows, texts, strict=True)
    ]
    said: list[str] = []
    monkeypatch.setattr(measure, "say", said.append)
    monkeypatch.setattr("selfevo_jax.report.text_line", str)
    measure._say_figures("ifeval", asdict(score(of, rows)[0]) | {"texts": "as they are"})
    half, whole = (binomtest(hits, 17).proportion_ci(method="wilson") for hits in (8, 17))
    strict, loose = f"47.1 [{100 * half.low:.1f}, {100 * half.high:.1f}]", f"100 [{100 * whole.low:.1f}, 100]"
    assert said == [
        "ifeval: 17 of 541 rows; 524 have other values of instruction_id_list",
        f"ifeval direct: {strict} %, demands {strict}",
        f"ifeval direct by constraints, loose: {loose} %, demands {loose}",
        "ifeval texts: as they are",
    ]
