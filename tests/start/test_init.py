"""`selfevo init` writes a config that loads, passes the check, and says what each line is for."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import good
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.config import load_config, read_tree
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.model import preset_shape
from selfevo_jax.start.defaults import Machine, settings_for
from selfevo_jax.start.written import commented


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    good(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*words: str):
    given = ["--model", "builtin:stories", "--prompts", "prompts.jsonl", "--no-measure"]
    return CliRunner().invoke(app, ["init", *given, *words])


def test_the_config_of_a_model_and_files_loads_and_passes_the_check(files: Path) -> None:
    done = init("mine.yaml", "--evaluation", "test.jsonl", "--meta", "meta.jsonl")
    assert done.exit_code == 0, done.output
    assert "task: answers that number can grade" in done.output
    assert "meta.jsonl: 20 rows of D_meta, with verdicts" in done.output
    assert "missing" not in done.output
    found = load_config("mine.yaml")
    assert found.run_dir == "runs/mine"
    assert (found.judge.kind, found.format.kind) == ("verdict", "plain")
    assert found.data.meta_skill is not None
    assert list(found.data.evaluation) == ["test"]
    assert found.data.prompts_per_round == 30
    assert (found.meta.learning_rate, found.learn.learning_rate, found.meta.epochs) == (2e-3, 1e-3, 4)
    assert found.sampling.cache_length <= 128
    text = Path("mine.yaml").read_text()
    assert "# unlabeled: an answer beside them is never read in a round" in text
    assert max(map(len, text.splitlines())) <= 110
    checked = CliRunner().invoke(app, ["evolve", "mine.yaml", "--check"])
    assert checked.exit_code == 0, checked.output
    first = Path("mine.yaml").read_bytes()
    assert init("mine.yaml", "--evaluation", "test.jsonl", "--meta", "meta.jsonl", "--force").exit_code == 0
    assert Path("mine.yaml").read_bytes() == first


def test_without_feedback_examples_it_names_the_ways_to_get_some(files: Path) -> None:
    done = init("folder")
    assert done.exit_code == 0, done.output
    found = load_config(Path("folder/evolve.yaml"))
    assert (found.run_dir, found.meta.steps, found.data.has_meta) == ("runs/folder", 0, False)
    for said in ("no evaluation set", "no D_meta", "selfevo annotate", "selfevo meta-data", "meta_from_equations"):
        assert said in done.output
    assert "annotate" in Path("folder/evolve.yaml").read_text()


def test_a_file_that_is_there_is_written_over_by_force_alone(files: Path) -> None:
    Path("mine.yaml").write_text("mine")
    done = init("mine.yaml")
    assert isinstance(done.exception, ConfigError)
    assert "exists already" in str(done.exception)
    assert Path("mine.yaml").read_text() == "mine"


def test_files_with_faults_are_named_and_nothing_is_written(files: Path) -> None:
    Path("test.jsonl").write_bytes(Path("prompts.jsonl").read_bytes())
    before = sorted(Path().iterdir())
    done = init("mine.yaml", "--evaluation", "test.jsonl")
    assert isinstance(done.exception, SelfevoError)
    assert "30 of its 30 prompts are also in data.prompts" in str(done.exception)
    assert sorted(Path().iterdir()) == before


def test_fields_of_other_names_are_mapped_and_said(files: Path) -> None:
    rows = [json.loads(line) for line in Path("prompts.jsonl").read_text().splitlines()]
    Path("prompts.jsonl").write_text("".join(json.dumps({"words": row["prompt"]}) + "\n" for row in rows))
    assert isinstance(init("mine.yaml").exception, SelfevoError)
    done = init("mine.yaml", "--column", "prompts.prompt=words")
    assert done.exit_code == 0, done.output
    assert "30 prompts (prompt from 'words')" in done.output
    assert load_config("mine.yaml").data.prompts.columns == {"prompt": "words"}
    assert "expected FILE.NAME=FIELD" in str(init("other.yaml", "--column", "prompt=words").exception)


@pytest.mark.parametrize(
    ("preset", "machine", "lora", "dtype", "rates"),
    [
        ("smollm2-135m", Machine("cpu", 1, 12 << 30), False, "float32", (3e-4, 2e-4)),
        ("smollm2-1.7b", Machine("gpu", 1, 80 << 30), False, "bfloat16", (1e-5, 1e-5)),
        ("smollm2-1.7b", Machine("cpu", 1, 12 << 30), True, "float32", (1e-4, 1e-4)),
        ("llama-3.1-8b", Machine("gpu", 1, 80 << 30), True, "bfloat16", (1e-4, 1e-4)),
        ("llama-3.1-8b", Machine("tpu", 16, 31 << 30), False, "bfloat16", (1e-5, 1e-5)),
    ],
)
def test_settings_fit_the_size_of_the_model_and_the_machine(preset, machine, lora, dtype, rates) -> None:
    found = settings_for(preset_shape(preset), machine, 1024, 10_000, 3)
    assert (found.lora, found.dtype) == (lora, dtype)
    assert (found.meta_rate, found.learn_rate) == pytest.approx(rates)
    assert found.rows % machine.devices == 0


def test_comments_stand_beside_a_value_or_above_it_and_change_none() -> None:
    tree = {"a": 1, "b": {"c": {"d": [1, "x: y"]}, "e": None, "f": "two\nlines # no comment"}}
    text = commented(tree, {"a": "short", "b.c": "long " * 30, "b": "of b"}, ["head"])
    assert yaml.safe_load(text) == tree
    assert text.startswith("# head\na: 1  # short\n\n# of b\nb:\n  # long long")


@given(
    st.recursive(
        st.text() | st.just("1e3") | st.floats(-1e9, 1e9), lambda of: st.dictionaries(st.text(), of), max_leaves=3
    )
)
@settings(max_examples=60, deadline=None)
def test_any_value_stands_in_one_line_that_is_read_back_as_it_is(tmp_path_factory, value) -> None:
    text = commented({"a": {"b": value}}, {"a.b": "a word"}, [])
    (tmp_path_factory.getbasetemp() / "any.yaml").write_bytes(text.encode())
    assert read_tree(tmp_path_factory.getbasetemp() / "any.yaml") == {"a": {"b": value}}
