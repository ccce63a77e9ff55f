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
