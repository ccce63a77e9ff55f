"""Evaluation sets in the config: short forms, overrides, and messages."""

import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from selfevo_jax import plugins
from selfevo_jax.config import Config, dump_config, load_config
from selfevo_jax.data import EvaluationRow
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.run.identity import config_differences
from selfevo_jax.scorers import Grade, code_checksums, faults_of, grades_of, keys_of, open_scorers, spoiled

BEGIN = "run_dir: x\nmodel: {source: builtin:stories}\ndata: {prompts: p.jsonl, meta_skill: m.jsonl, evaluation: "


@pytest.fixture
def load(tmp_path: Path):
    def loaded(evaluation: str, *overrides: str) -> Config:
        (tmp_path / "c.yaml").write_text(BEGIN + evaluation + "}\n")
        return load_config(tmp_path / "c.yaml", overrides)

    return loaded


def test_a_file_alone_is_a_set_of_numbers_and_is_written_as_a_file_alone(load, tmp_path: Path) -> None:
    config = load("{gsm8k: test.jsonl}")
    assert [scorer.kind for scorer in config.data.evaluation["gsm8k"].scorers] == ["number"]
    assert config == load("{gsm8k: {source: test.jsonl, scorers: [number], columns: {}}}")
    assert config == load("{gsm8k: {source: test.jsonl, scorers: number}}")
    assert "gsm8k: test.jsonl" in dump_config(config)


SEVERAL = (
    "{mmlu: {source: m.jsonl, columns: {answer: target}, scorers: [choice, {kind: regex, pattern: '#(.)', "
    "columns: {answer: target}}, {regex: '=(.)', name: x}, {choice: {last: C, name: y}}, python: a.b:c, {kind: "
    "'pkg.mod:Mine', name: mine, limit: 3}]}}"
)


def test_a_set_has_several_scorers_in_short_forms_and_long_and_is_read_back_the_same(load, tmp_path: Path) -> None:
    config = load(SEVERAL.replace(" python: a.b:c,", " {python: 'a.b:c'},"))
    found = config.data.evaluation["mmlu"]
    assert [scorer.name for scorer in found.scorers] == ["choice", "regex", "x", "y", "python", "mine"]
    assert found.columns == {"answer": "target"}
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_keys_of_a_set_are_overrides_whether_it_is_a_file_or_a_section(load) -> None:
    for written in ("{s: a.jsonl}", "{s: {source: a.jsonl}}"):
        found = load(written, "data.evaluation.s.source=b.jsonl", "data.evaluation.s.scorers=[exact]").data.evaluation
        assert (found["s"].source, found["s"].scorers[0].kind) == ("b.jsonl", "exact")
        assert load(written, "data.evaluation.s=c.jsonl").data.evaluation["s"].source == "c.jsonl"
    assert load("{}", "data.evaluation.s=c.jsonl").data.evaluation["s"].source == "c.jsonl"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{s: {sorce: a}}", "unknown key 'data.evaluation.s.sorce'; did you mean 'source'"),
        ("{s: {scorers: [exact]}}", "data.evaluation.s.source: missing; expected a text"),
        ("{s: 5}", "data.evaluation.s: found 5, expected a name of letters.*and a file"),
        ("{s: {source: a, scorers: [nmber]}}", r"data.evaluation.s.scorers.0: no 'nmber'; did you mean 'number'\?"),
        ("{s: {source: a, scorers: 5}}", "data.evaluation.s.scorers: found 5, expected a list, each a kind such as"),
        ("{s: {source: a, scorers: [5]}}", "data.evaluation.s.scorers.0: found 5, expected a kind such as number"),
        ("{s: {source: a, scorers: [{last: D, name: x}]}}", "scorers.0: found a section without `kind`, expected"),
        ("{s: {source: a, scorers: []}}", "data.evaluation.s.scorers: names none; expected a list"),
        ("{s: {source: a, scorers: [exact, exact]}}", "two scorers are called 'exact'; give one of them another"),
        ("{s: {source: a, scorers: [{kind: exact, csae: true}]}}", "scorers.0.csae'; did you mean 'case'"),
        ("{s: {source: a, scorers: [{kind: exact, case: 1}]}}", "scorers.0.case: found 1, expected true or false"),
        ("{s: {source: a, scorers: [{regex: x}]}}", "scorers.0.pattern: found 'x' with 0 groups, expected one"),
        ("{s: {source: a, scorers: [{kind: regex}]}}", "scorers.0.pattern: missing; expected a text"),
        (
            "{s: {source: a, scorers: [{kind: regex, pattern: '(x)', seconds: 0}]}}",
            "seconds: found 0, expected a number",
        ),
        ("{s: {source: a, columns: {answer: 5}}}", "columns.answer: found 5, expected a section of names of columns"),
    ],
)
def test_what_is_wrong_in_a_set_is_named_with_its_key_and_the_right_form(load, written: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(written)


def test_other_scorers_are_another_run(load) -> None:
    old, new = load("{s: a.jsonl}"), load("{s: {source: a.jsonl, scorers: [exact]}}")
    assert any("data.evaluation.s.scorers" in line for line in config_differences(old, new))
    assert config_differences(old, load("{s: {source: a.jsonl}}")) == []


TOY = '''
from selfevo_jax.scorers import Grade, ScorerSection

class Short(ScorerSection):
    """Right is a text of few words."""
    kind: str = "toy_scorers:Short"
    words: int = 3

    def grade(self, row, text):
        return Grade(float(len(text.split()) <= self.words))

class Plain:
    name = "plain"
    def __init__(self, factor=1.0): self.factor = factor
    def faults(self, rows): return [None for _ in rows]
    def grades(self, rows, texts): return [Grade(self.factor) for _ in rows]
    def keys(self, rows, texts): return list(texts)
    def spoil(self, row, text, rng): return None

def broken(**settings): raise RuntimeError("no")
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "toy_scorers.py").write_text(TOY)
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[selfevo_jax.scorers]\nplain_toy = toy_scorers:Plain\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("toy_scorers", None)


def opened(config: Config):
    return open_scorers(config.data.evaluation["s"].scorers, "data.evaluation.s.scorers")


def test_a_scorer_comes_from_a_module_or_an_entry_point_with_its_settings(load, toys: Path) -> None:
    config = load("{s: {source: a, scorers: [{kind: 'toy_scorers:Short', words: 2}, {kind: plain_toy, factor: 0.5}]}}")
    short, plain = opened(config)
    assert [g.value for g in short.grades([None, None], ["a b", "a b c"])] == [1.0, 0.0]
    assert plain.grades([None], ["x"])[0].value == 0.5
    (toys / "again.yaml").write_text(dump_config(config))
    assert load_config(toys / "again.yaml") == config


def test_a_package_that_is_installed_later_is_seen(load, toys: Path) -> None:
    written = "{s: {source: a, scorers: [%s]}}"
    load(written % "plain_toy")
    later = shutil.copytree(toys / "toy-1.0.dist-info", toys / "later-1.0.dist-info")
    (later / "METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1.0\n")
    (later / "entry_points.txt").write_text("[selfevo_jax.scorers]\nlate_toy = toy_scorers:Plain\n")
    os.utime(toys, (0, 0))  # a clock may be too coarse to tell the two moments apart
    assert opened(load(written % "late_toy"))[0].grades([None], ["x"])[0].value == 1.0


def test_the_users_code_is_among_what_figures_rest_on(load, toys: Path) -> None:
    written = "{s: {source: a, scorers: [number, plain_toy, {python: 'toy_scorers:broken'}]}}"
    sections = load(written).data.evaluation["s"].scorers
    digest = hashlib.sha256((toys / "toy_scorers.py").read_bytes()).hexdigest()
    assert code_checksums(sections, "k") == {"k.1": digest, "k.2": digest}


def test_scoring_code_that_fails_is_one_line_with_its_name_and_the_row() -> None:
    rows = [EvaluationRow("a", "p"), EvaluationRow("b", "p")]
    mine = SimpleNamespace(name="mine", grades=lambda rows, texts: [Grade(1 / len(text)) for text in texts])
    with pytest.raises(DataError, match=r"^scorer 'mine': fails on row 'b': ZeroDivisionError: division by zero$"):
        grades_of(mine, rows, ["x", ""])


OF_ROWS = [EvaluationRow("a", "p"), EvaluationRow("b", "p")]
CALLS = {
    "faults": lambda scorer: faults_of(scorer, OF_ROWS),
    "grades": lambda scorer: grades_of(scorer, OF_ROWS, ["x", "y"]),
    "keys": lambda scorer: keys_of(scorer, OF_ROWS, ["x", "y"]),
    "spoil": lambda scorer: spoiled(scorer, OF_ROWS[0], "x", random.Random(0)),
}


@pytest.mark.parametrize(
    ("method", "gives", "said"),
    [
        ("faults", lambda *_: 1 / 0, "fails on row 'a': ZeroDivisionError"),
        (
            "faults",
            lambda rows: ["bad"] * len(rows),
            r"found \"bad\" among its faults \(row 'a'\), expected a Fault",
        ),
        ("grades", lambda rows, texts: [1.0, 0.0], "found 1.0 among its grades .*, expected a Grade from 0 to 1"),
        (
            "grades",
            lambda rows, texts: [Grade(7.0), Grade(1.0)],
            "found .* among its grades .*, expected a Grade from 0 to 1",
        ),
        ("grades", lambda rows, texts: [Grade(float("nan"))] * 2, "found .* expected a Grade from 0 to 1"),
        ("grades", lambda rows, texts: None, "fails on row 'a': TypeError"),
        (
            "grades",
            lambda rows, texts: [row.columns["gold"] for row in rows],
            "fails on row 'a': KeyError: 'gold'; the row has no such column. Let `faults` say so",
        ),
        ("keys", lambda rows, texts: ["k"], "found 1 keys for 2 rows, expected one for each"),
        ("keys", lambda rows, texts: [["k"], ["k"]], r"found \[\"k\"\] among its keys .* can be hashed"),
        ("spoil", lambda row, text, rng: text.nothing, "fails on row 'a': AttributeError"),
        ("spoil", lambda row, text, rng: 5, "found 5 among its spoiled answers .*, expected a text"),
    ],
)
def test_whatever_a_scorer_from_outside_does_wrong_is_one_line_with_its_name_and_the_row(method, gives, said) -> None:
    with pytest.raises(DataError, match=f"^scorer 'mine': {said}"):
        CALLS[method](SimpleNamespace(name="mine", **{method: gives}))


def test_a_module_that_is_in_the_folder_alone_is_told_with_what_finds_it(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "only_here.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    with pytest.raises(ConfigError, match=r"k: 'only_here:A' cannot .*: put PYTHONPATH=\. before the command$"):
        plugins.imported("only_here:A", "k")


def test_a_scorer_from_outside_is_loaded_once(load, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, loads = load("{s: {source: a, scorers: [{kind: plain_toy}]}}"), []
    imported = plugins.imported
    monkeypatch.setattr(plugins, "imported", lambda path, key: loads.append(path) or imported(path, key))
    opened(config)
    assert loads == ["toy_scorers:Plain"]


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        ({"kind": "toy_scorers:Absent"}, "scorers.0.kind: 'toy_scorers:Absent' cannot be imported"),
        ({"kind": "toy_scorers:broken"}, "scorers.0: toy_scorers:broken fails: RuntimeError: no"),
        ({"kind": "toy_scorers:Plain", "x": 1}, "scorers.0: toy_scorers:Plain fails: TypeError: .*argument 'x'"),
        (
            {"kind": "builtins:dict"},
            "scorers.0: builtins:dict gives a dict without faults, .*expected a Scorer",
        ),
        ({"kind": "toy_scorers:Short", "wrods": 1}, "scorers.0.wrods: Extra inputs are not permitted"),
    ],
)
def test_a_scorer_from_outside_that_cannot_work_is_refused_with_its_key(load, toys: Path, scorer, said: str) -> None:
    config = load(f"{{s: {{source: a, scorers: [{json.dumps(scorer)}]}}}}")
    with pytest.raises(ConfigError, match=said):
        opened(config)
