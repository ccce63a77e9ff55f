import json
from pathlib import Path

import pytest

from selfevo_jax.config import dump_config, load_config
from selfevo_jax.errors import ConfigError

MINIMAL = "run_dir: runs/x\nmodel: {source: builtin:stories}\ndata: {stories: {}}\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["2e-5", "2.0e-5", "0.00002", "2E-5"])
def test_a_number_in_scientific_notation_is_a_number(tmp_path: Path, text: str) -> None:
    config = load_config(write(tmp_path, MINIMAL + f"learn: {{learning_rate: {text}}}\n"))
    assert config.learn.learning_rate == pytest.approx(2e-5)
    assert load_config(write(tmp_path, MINIMAL), [f"learn.learning_rate={text}"]).learn.learning_rate == 2e-5


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'learn.learning_rte'; did you mean 'learning_rate'"):
        load_config(write(tmp_path, MINIMAL + "learn: {learning_rte: 1e-3}\n"))


def test_a_wrong_value_names_file_and_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml: learn.steps: .*greater than 0.*found 0"):
        load_config(write(tmp_path, MINIMAL), ["learn.steps=0"])


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key 'seed' stands twice"):
        load_config(write(tmp_path, MINIMAL + "seed: 1\nseed: 2\n"))


def test_a_missing_file_an_empty_one_and_a_bad_override_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="expected sections"):
        load_config(write(tmp_path, ""))
    with pytest.raises(ConfigError, match="expected key=value"):
        load_config(write(tmp_path, MINIMAL), ["seed"])


def test_data_needs_exactly_one_source_of_feedback_examples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exactly one of meta_skill and meta_from_solutions"):
        load_config(write(tmp_path, "run_dir: x\nmodel: {source: a}\ndata: {prompts: p.jsonl}\n"))


def test_a_dumped_config_loads_as_the_same_config(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), ["rounds.number=2", "format.kind=chat"])
    assert load_config(write(tmp_path, dump_config(config))) == config


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join([f'*{m}'] * 8)}]\n" for m, n in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "? [1]\n: 2\n",
        "seed: 2024-13-45\n",
        "seed: " + "[" * 1500,
        "seed: " + "9" * 5000,
        "seed: !!bool x\n",
        BOMB + MINIMAL + "seed: *h\n",
        MINIMAL + "rounds: {number: 1000000000}\n",
        "x: " + "y" * 2**20,
    ],
    ids=["list as key", "no date", "deep", "long number", "no boolean", "aliases", "rounds", "large"],
)
def test_what_is_no_config_is_one_short_error_with_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="config.yaml") as told:
        load_config(write(tmp_path, text))
    assert len(str(told.value)) < 4000


@pytest.mark.parametrize("name", ["../../out", "/out", "a/b", "", ".hidden", "a\n"])
def test_the_name_of_an_evaluation_set_can_be_no_path(tmp_path: Path, name: str) -> None:
    given = "run_dir: runs/x\nmodel: {source: builtin:stories}\ndata: {prompts: p, meta_skill: m, evaluation: "
    with pytest.raises(ConfigError, match="data.evaluation"):
        load_config(write(tmp_path, f"{given}{{{json.dumps(name)}: rows.jsonl}}}}\n"))
    load_config(write(tmp_path, given + "{gsm8k_test.v2: rows.jsonl}}\n"))


def test_a_url_with_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config.yaml: model.source: a URL with credentials") as told:
        load_config(write(tmp_path, MINIMAL.replace("builtin:stories", "https://me:secret@host/model")))
    assert "secret" not in str(told.value)
