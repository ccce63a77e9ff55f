"""Tasks of lm-evaluation-harness, in YAML files of one's own, answered by our engine and scored by the harness."""

import json
import math
import sys

import pytest
import yaml
from harness_helpers import TREE

from selfevo_jax.cli.common import app
from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.harness import measure_tasks
from selfevo_jax.harness.answers import Answers
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.measure import measure
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.tasks import open_task

ROWS = 12


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Three tasks on one file of rows: what the harness found, what we find, and the rows."""
    pytest.importorskip("lm_eval")
    config = parse_config(TREE)
    stories = open_task(config).evaluation()["stories"]
    of = EvaluationSet(stories.rows[:ROWS], stories.scorers)
    folder = tmp_path_factory.mktemp("tasks")
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": r.prompt, "answer": r.columns["answer"]}) + "\n" for r in of.rows))
    data = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
    }
    mean = {"aggregation": "mean", "higher_is_better": True}
    number = {
        "name": "number",
        "filter": [{"function": "regex", "regex_pattern": "(-?[0-9]+)"}, {"function": "take_first"}],
    }
    written = {
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n\n\n"]},
        "filter_list": [number],
        "metric_list": [{"metric": "exact_match", **mean}],
    }
    chosen = {
        "output_type": "multiple_choice",
        "doc_to_choice": ["3", "5", "12"],
        "doc_to_target": 1,
        "metric_list": [{"metric": "acc", **mean}],
    }
    whole = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{prompt}}",
        "metric_list": [{"metric": "word_perplexity"}],
    }
    files = []
    for name, task in {"written": written, "chosen": chosen, "whole": whole}.items():
        files.append(str(folder / f"{name}.yaml"))
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": f"own_{name}", **data, **task}))
    found = measure_tasks(config, files, Reporter(quiet=True))
    bench = open_workbench(config)
    ours = measure(bench, bench.engine.place(bench.base_params()), of, "stories", Reporter(quiet=True))
    return {(one.task, one.mode): one for one in found}, ours, of.rows, bench


def test_figures_and_texts_are_those_of_our_own_evaluation_of_the_same_rows(measured) -> None:
    found, (figures, texts), rows, _ = measured
    assert set(found) == {
        ("own_written", "direct"),
        ("own_written", "refined"),
        ("own_chosen", "direct"),
        ("own_whole", "direct"),
    }
    for mode in ("direct", "refined"):
        one = found["own_written", mode]
        assert one.metrics == {"exact_match": pytest.approx(figures[mode]["share"])}
        assert one.rows == len(rows)
        ours = {r["prompt"]: r["candidates"][r["chosen"] if mode == "refined" else 0]["text"] for r in texts}
        assert {s["doc"]["prompt"]: s["resps"][0][0] for s in one.samples} == ours
    assert 0 < figures["direct"]["share"] < 1


def test_choices_and_whole_texts_are_scored_by_the_likelihoods_of_the_engine(measured) -> None:
    found, _, rows, bench = measured
    answers = Answers(bench, bench.engine.place(bench.base_params()), Reporter(quiet=True), refine=False)
    logprobs = iter(answers.likelihoods([(row.prompt, f" {choice}") for row in rows for choice in ("3", "5", "12")]))
    best = [max(range(3), key=[next(logprobs).logprob for _ in range(3)].__getitem__) for _ in rows]
    assert found["own_chosen", "direct"].metrics["acc"] == pytest.approx(best.count(1) / len(rows))
    total, words = sum(answers.rolling([row.prompt for row in rows])), sum(len(row.prompt.split()) for row in rows)
    perplexity = found["own_whole", "direct"].metrics["word_perplexity"]
    assert perplexity == pytest.approx(math.exp(-total / words))


def test_an_unknown_task_is_refused_before_a_model_is_opened(tmp_path) -> None:
    pytest.importorskip("lm_eval")
    config = parse_config(TREE | {"model": {"source": "nowhere"}})
    with pytest.raises(ConfigError, match=r"--harness: .*none\.yaml: no such file"):
        measure_tasks(config, [str(tmp_path / "none.yaml")], Reporter(quiet=True))
    (tmp_path / "torn.yaml").write_text("task: [")
    with pytest.raises(ConfigError, match="--harness: lm-eval fails"):
        measure_tasks(config, [str(tmp_path / "torn.yaml")], Reporter(quiet=True))


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"--harness needs the package lm-eval; .*pip install .*\[eval\]"):
        measure_tasks(parse_config(TREE), ["gsm8k"], Reporter(quiet=True))
    with pytest.raises(ConfigError, match=r"evaluate\.modes: --harness measures direct and refined"):
        measure_tasks(parse_config(TREE | {"evaluate": {"modes": ["both"]}}), ["gsm8k"], Reporter(quiet=True))


def test_the_command_names_a_list_without_tasks() -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["eval", "configs/quickstart.yaml", "--harness", " , "])
    assert isinstance(done.exception, ConfigError)
    assert "names no task" in str(done.exception)
