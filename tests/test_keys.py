"""`selfevo keys` lists what can be set; a key that is written as an option is led to its form."""

import pytest
from typer.testing import CliRunner

from selfevo_jax.api.keys import listed
from selfevo_jax.cli import app
from selfevo_jax.config.forms import fields
from selfevo_jax.errors import ConfigError


def test_every_key_is_listed_with_its_default_form_and_meaning() -> None:
    lines = list(listed(None))
    names = {line.split()[0].rstrip(":").removesuffix(".NAME") for line in lines if line and line[0] != " "}
    inner = ("source", "columns")  # of rows, which many keys hold
    missing = [full for full, _ in fields() if full not in names and full.rpartition(".")[2] not in inner]
    assert missing == []
    for said in ("seed = 0: a whole number from 0 up to 2147483647", "run_dir (required): a text"):
        assert said in lines
        assert lines[lines.index(said) + 1].startswith("    ")
    assert "rounds.variant = restart: restart, continual_mixed or continual_self_only" in lines
    assert {"rows", "scorer number", "tracker wandb"} <= names | set(lines)
    assert any(line.startswith("annotate.responses.number = 1:") for line in lines)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("learn.steps", "learn.steps = null: a whole number above 0, or null"),
        ("data.evaluation.mine.source", "data.evaluation.mine.source (required): a text"),
        ("annotate.responses.number", "annotate.responses.number = 1: a whole number above 0"),
        ("lr", "meta.learning_rate = 0.001: a number above 0 up to 1000"),
        ("controls_warn", "rounds.controls_warn_above = 0.2: a number from 0 up to 1"),
    ],
)
def test_a_key_is_found_by_its_name_a_part_of_it_or_the_name_that_others_have_for_it(name: str, first: str) -> None:
    assert next(listed(name)) == first


@pytest.mark.parametrize("name", ["data.stories", "learn.lora", "rows", "scorer choice", "data.evaluation.mine"])
def test_a_section_is_listed_with_its_own_keys(name: str) -> None:
    blank, heading, about, *keys = listed(name)
    assert (blank, heading) == ("", name)
    assert about.startswith("    ")
    assert keys


def test_a_name_of_nothing_is_refused_with_what_lists_all() -> None:
    with pytest.raises(ConfigError, match="teapot: no key, .*`selfevo keys` lists all"):
        list(listed("teapot"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("data.evaluaton", "data.evaluation"),
        ("stepz", "steps"),
        ("learn.stepz", "learn.steps"),
        ("scorer exat", "scorer exact"),
        ("exat", "exact"),
        ("bach_size", "batch_size"),
    ],
)
def test_a_slip_in_a_name_is_told_with_the_name_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        list(listed(name))
    assert list(listed(meant))


def test_the_kind_of_a_scorer_is_found_by_its_name_alone() -> None:
    assert list(listed("exact")) == list(listed("scorer exact"))
    assert "scorer number" in list(listed("number"))
    assert "rounds.number = 3: a whole number from 0 up" in "\n".join(listed("number"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds.number", "1"], "--rounds.number: .* without dashes: rounds.number=1"),
        (["--seed=3", "--check"], "--seed: .* without dashes: seed=3"),
        (["--data.prompts-per-round", "8"], "without dashes: data.prompts_per_round=8"),
    ],
)
def test_a_key_that_is_written_as_an_option_is_led_to_its_form(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CliRunner().invoke(app, ["evolve", "mine.yaml", *words], catch_exceptions=False)
    assert "No such option" in CliRunner().invoke(app, ["evolve", "mine.yaml", "--teapot"]).output
