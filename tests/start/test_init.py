"""`selfevo init` writes a config that loads, passes the check, and says what each line is for."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_files import good
from typer.testing import CliRunner

from selfevo_jax.cli import app
from selfevo_jax.config import load_config, read_tree
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.model import preset_shape
from selfevo_jax.start import found as found_in
from selfevo_jax.start import init as make_config
from selfevo_jax.start.check import _of_exact as warned
from selfevo_jax.start.defaults import Machine, settings_for
from selfevo_jax.start.written import commented
from selfevo_jax.text import FormatSection


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
    assert "task: answers that the scorer 'number' can grade" in done.output
    assert "meta.jsonl: 20 rows of D_meta, with verdicts" in done.output
    assert "missing" not in done.output
    found = load_config("mine.yaml")
    assert found.run_dir == "runs/mine"
    assert (found.judge.kind, found.format.kind) == ("verdict", "plain")
    assert found.data.meta_skill is not None
    assert list(found.data.evaluation) == ["test"]
    assert found.data.prompts_per_round == 30
    assert found.rounds.minimum_kept == 7
    few = (
        "D_meta has 20 rows; of fewer than 60",
        "set 'test' has 10 rows: one of them is 10.0 points",
        "up to 15.8 points",
    )
    assert all(said in done.output for said in few), done.output
    assert (found.meta.learning_rate, found.learn.learning_rate, found.meta.epochs) == (2e-3, 1e-3, 4)
    assert found.sampling.cache_length <= 128
    text = Path("mine.yaml").read_text()
    assert "# unlabeled: an answer beside them is never read in a round" in text
    assert read_tree("mine.yaml")["format"] == {"kind": "plain"}
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
    for said in ("no evaluation set", "no D_meta", "--base folder/evolve.yaml`", "worked solutions", "equations"):
        assert said in done.output
    assert "annotate" in Path("folder/evolve.yaml").read_text()


def noted(file: str, respond: str, cut: int) -> None:
    """What an annotation writes beside its rows."""
    folder = Path(file).with_suffix(".annotate")
    folder.mkdir()
    base = {"format": {"kind": "plain", "respond": respond}}
    told = {"base": base, "response_tokens": 20, "counts": {"drawn": 24, "cut": cut}}
    (folder / "summary.json").write_text(json.dumps(told))


def test_d_meta_is_asked_for_and_used_in_one_format_and_another_one_is_warned_of(files: Path, monkeypatch) -> None:
    asked = []
    fits = make_config.fitting_format
    plain = FormatSection(respond="{prompt}\nAnswer:")
    monkeypatch.setattr(make_config, "fitting_format", lambda t, **texts: asked.append(texts) or (plain, fits(t)[1]))
    words = "--evaluation", "test.jsonl"
    assert 'a prompt is asked as "{prompt}\\nAnswer:"' in init("mine.yaml", *words).output
    init("mine.yaml", *words, "--meta", "meta.jsonl", "--force")
    assert asked == [{"respond": make_config.STEPS}] * 2
    monkeypatch.setattr(make_config, "STEPS", "{prompt}\nAnswer:")
    done = init("mine.yaml", *words, "--meta", "meta.jsonl", "--force")
    assert "0 of 20 refinements of D_meta have the line '#### '" in done.output
    assert load_config("mine.yaml").sampling.respond.max_new_tokens > 8
    noted("meta.jsonl", "Q: {prompt}\nA:", cut=17)
    done = init("mine.yaml", *words, "--meta", "meta.jsonl", "--force")
    assert 'plain (as D_meta\'s responses were sampled); a prompt is asked as "Q: {prompt}\\nA:"' in done.output
    assert "another format" not in done.output
    assert "17 of 24 responses were cut at 20 tokens when D_meta was made" in done.output
    found = load_config("mine.yaml")
    assert (found.format.respond, found.sampling.respond.max_new_tokens) == ("Q: {prompt}\nA:", 40)
    checked = CliRunner().invoke(app, ["evolve", "mine.yaml", "--check", "format.respond={prompt}"])
    assert "meta.jsonl: its responses were sampled under another format (format.respond" in checked.output


def test_a_chat_model_is_asked_for_the_bare_answer_that_exact_wants(files: Path, monkeypatch) -> None:
    rows = [{"prompt": f"What is the capital of land {n}?", "answer": "Paris"} for n in range(10)]
    Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = []
    fits = make_config.fitting_format
    monkeypatch.setattr(make_config, "fitting_format", lambda t, **texts: asked.append(texts) or fits(t, **texts))
    for meta in ((), ("--meta", "meta.jsonl")):
        assert init("mine.yaml", "--evaluation", "test.jsonl", *meta, "--force").exit_code == 0
    assert asked == [{"respond": "{prompt}\nReply with the answer alone, without a sentence or a full stop."}] * 2
    config = load_config("mine.yaml")
    assert config.data.evaluation["test"].scorers[0].punctuation is False
    assert list(warned(config)) == []  # plain: no chat model
    chat = config.model_copy(update={"format": FormatSection(kind="chat")})
    (said,) = warned(chat)
    assert "'exact' (evaluation set 'test')" in said
    assert 'set format.respond to "{prompt}\\nReply with the answer alone' in said
    assert list(warned(chat.model_copy(update={"format": FormatSection(kind="chat", **asked[0])}))) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("日本:語.jsonl", "held_out"),
        ("in/a:b.jsonl", "a-b"),
        ("gs://bucket/test.jsonl", "test"),
        ("hf:OWNER/NAME/validation", "validation"),
        ("builtin:gsm8k/test", "test"),
    ],
)
def test_a_set_has_the_name_of_its_file_or_slice(source: str, name: str) -> None:
    assert found_in._set_name(source) == name


def test_sets_of_one_name_are_numbered(files: Path) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "test.jsonl").write_bytes(Path("test.jsonl").read_bytes())
    init("mine.yaml", "--evaluation", "a/test.jsonl", "--evaluation", "b/test.jsonl")
    assert list(load_config("mine.yaml").data.evaluation) == ["test", "test-2"]


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
    said = "data.evaluation.test (test.jsonl), field 'prompt': 30 of its 30 prompts are also in data.prompts"
    assert f"{said} (prompts.jsonl, such as" in str(done.exception)
    assert sorted(Path().iterdir()) == before


def test_fields_of_other_names_are_mapped_and_said(files: Path) -> None:
    rows = [json.loads(line) for line in Path("prompts.jsonl").read_text().splitlines()]
    Path("prompts.jsonl").write_text("".join(json.dumps({"words": row["prompt"]}) + "\n" for row in rows))
    said = str(init("mine.yaml").exception)
    assert "the row has the fields: words" in said
    assert said.endswith("here: --column prompts.prompt=words")
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
@example("\xa0")
@settings(max_examples=60)
def test_any_value_stands_in_one_line_that_is_read_back_as_it_is(tmp_path_factory, value) -> None:
    text = commented({"a": {"b": value}}, {"a.b": "a word"}, [])
    (tmp_path_factory.getbasetemp() / "any.yaml").write_bytes(text.encode())
    assert read_tree(tmp_path_factory.getbasetemp() / "any.yaml") == {"a": {"b": value}}
