"""A command is told what it is about by a config, a run, a checkpoint of it, or a model alone."""

import shutil
from pathlib import Path

import pytest
import yaml
from loop_helpers import Heard, config
from typer.testing import CliRunner

from selfevo_jax.checkpoint.source import ASSETS
from selfevo_jax.cli import app, winrate
from selfevo_jax.cli.targets import is_config, model_and_tokenizer, run_of, source_of, target_config
from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.rounds import texts
from selfevo_jax.run import RunDir


@pytest.mark.parametrize(
    ("point", "checkpoint"),
    [("", "0002"), ("@1", "0001"), ("@meta", "meta"), ("/checkpoints/0001", "0001")],
)
def test_a_checkpoint_comes_with_the_config_of_its_run(finished: Path, point: str, checkpoint: str) -> None:
    found = target_config(f"{finished}{point}", ["seed=7"])
    wanted = config(finished)
    assert found.model.source == str(finished / "checkpoints" / checkpoint)
    assert found.seed == 7
    assert (found.data, found.sampling, found.format) == (wanted.data, wanted.sampling, wanted.format)


def test_the_base_of_a_run_is_the_model_that_it_began_with(finished: Path) -> None:
    assert target_config(f"{finished}@base", None).model.source == "builtin:stories"


def test_a_config_takes_another_model_by_its_run(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    tree = config(tmp_path / "run").model_dump(mode="json")
    path.write_text(yaml.safe_dump(tree | {"model": {"source": "nowhere", "tokenizer": "elsewhere"}}))
    assert is_config(str(path))
    found = target_config(str(path), ["rounds.turns=2"], f"{finished}@1").model
    assert (found.source, found.tokenizer) == (str(finished / "checkpoints/0001"), None)
    assert target_config(str(path), None, "package:other").model.source == "package:other"
    assert source_of(f"{finished}@meta") == str(finished / "checkpoints/meta")
    assert source_of("answers.jsonl") == "answers.jsonl"


def test_the_base_of_a_run_has_the_tokenizer_that_the_run_names_for_it_beside_another_model_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run")
    tree = config(run.root).model_dump(mode="json") | {"model": {"source": "package:m", "tokenizer": "package:t"}}
    run.open(parse_config(tree), {"model": "x"})
    run.close()
    asked, opened = [], []
    monkeypatch.setattr(winrate, "_compare", lambda config, call, shown: asked.append(call) or (None, []))
    monkeypatch.setattr(winrate, "_show", lambda *_: None)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config(tmp_path / "other").model_dump(mode="json")))
    for side in (["--against", f"{run.root}@base"], ["--against", "o.jsonl", "--judge", f"{run.root}@base"]):
        arguments = ["winrate", str(tmp_path / "c.yaml"), *side]
        assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert [call.tokenizers for call in asked] == [{"package:m": "package:t"}] * 2
    assert [(call.against, call.judging) for call in asked] == [
        ("package:m", "builtin:stories"),
        ("o.jsonl", "package:m"),
    ]
    assert model_and_tokenizer(f"{run.root}@base") == ("package:m", "package:t")
    assert model_and_tokenizer(f"{run.root}@base", "mine") == ("package:m", "mine")
    assert model_and_tokenizer("package:m", "mine") == ("package:m", "mine")
    monkeypatch.setattr(texts, "open_workbench", lambda config: opened.append(config.model) or 1 / 0)
    models = texts.Models(config(run.root), texts.Kept(None), Heard(), lambda bench: [], asked[0].tokenizers)
    for source in ("package:m", "package:other"):
        with pytest.raises(ZeroDivisionError):
            models.texts(source, "answers", ["1"], lambda bench: {}, "answers", "")
    assert [(of.source, of.tokenizer) for of in opened] == [("package:m", "package:t"), ("package:other", None)]


def test_a_model_alone_has_a_config_that_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(ASSETS / "stories", tmp_path / "model")
    found = target_config(str(folder), ["data.evaluation.mine=builtin:gsm8k/test"])
    assert (found.model.source, found.format.kind, found.rounds.number) == (str(folder), "plain", 0)
    assert found.sampling.cache_length == 256  # all the positions that it has
    assert found.sampling.respond.max_new_tokens == 64
    assert list(found.data.evaluation) == ["mine"]
    with pytest.raises(ModelError, match="no run, and no model: nothing there; expected a folder"):
        target_config(str(tmp_path / "nowhere"), None)
    with pytest.raises(ModelError, match="nothing there .did you mean .*/model.."):
        target_config(str(tmp_path / "modell"), None)

    def kept_secret(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("selfevo_jax.storage.os.listdir", kept_secret)
    with pytest.raises(ModelError, match="nothing there; expected a folder"):
        target_config(str(tmp_path / "modell"), None)


def test_a_run_is_named_by_its_config_too(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config(finished).model_dump(mode="json")))
    assert run_of(str(path)).root == finished
    copied = shutil.copytree(finished, tmp_path / "moved")
    assert run_of(str(copied / "config.yaml")).root == copied


def test_a_target_with_credentials_in_it_is_refused_without_them(finished: Path) -> None:
    for words in (("https://me:hidden@host/x", None), (str(finished), "https://me:hidden@host/x")):
        with pytest.raises(ConfigError) as seen:
            target_config(words[0], None, words[1])
        assert "hidden" not in str(seen.value)
