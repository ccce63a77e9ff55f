"""Tasks of lm-evaluation-harness on our engine: what was found in each mode."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError, SelfevoError, first_line
from selfevo_jax.harness.answers import Answers
from selfevo_jax.lazy import extra
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.workbench import open_workbench

Mode = Literal["direct", "refined"]
MODES: tuple[Mode, ...] = ("direct", "refined")
WRITES = "generate_until"
"""The kind of tasks whose answers are texts that the model writes."""


@dataclass(frozen=True)
class Measured:
    """What lm-eval says of a task, or a group of tasks, in one mode."""

    task: str
    mode: Mode
    metrics: Mapping[str, float]
    """By `name` of the metric, or `name,filter` where a task has several filters."""
    errors: Mapping[str, float]
    """Standard errors, where there are some."""
    rows: int | None
    """Rows that were asked about; None for a group."""
    samples: Sequence[Mapping[str, Any]]
    """Each row as lm-eval logs it."""


def measure_tasks(config: Config, names: Sequence[str], reporter: Reporter) -> list[Measured]:
    """Answers tasks of lm-eval, by their names or their YAML files, in those modes of `evaluate.modes` that are MODES.
    What the model does not write (likelihoods) is measured once, as direct.

    Args:
      config: `data.evaluation_rows` limits the rows of each task.
      names: of tasks, groups or tags of lm-eval, or paths of YAML files.

    Raises:
      ConfigError: no package lm-eval, an unknown task, or one that this engine cannot answer.
    """
    modes = [mode for mode in MODES if mode in config.evaluate.modes]
    if not modes:
        raise ConfigError(f"evaluate.modes: --harness measures {' and '.join(MODES)}; name one of them")
    adapter = _adapter()
    loaded = _called(adapter.Tasks, list(names))
    bench = open_workbench(config)
    params = bench.engine.place(bench.base_params())
    answers = Answers(bench, params, reporter, refine="refined" in modes)
    found: list[Measured] = []
    for mode in modes:
        results = _called(loaded.evaluate, answers, mode == "refined", config.data.evaluation_rows)
        found += _measured(results, mode, also_unwritten=mode == modes[0])
    return found


def _adapter() -> ModuleType:
    extra("lm_eval", "lm-eval", "eval", lambda problem: ConfigError(f"--harness {problem}"))
    return importlib.import_module("selfevo_jax.harness.adapter")


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What lm-eval gives. Its errors, and those of tasks, are one line."""
    try:
        return function(*arguments)
    except SelfevoError:
        raise
    except Exception as error:
        raise ConfigError(f"--harness: lm-eval fails: {type(error).__name__}: {first_line(error)}") from error


def _measured(results: Mapping[str, Any], mode: Mode, also_unwritten: bool) -> Iterator[Measured]:
    """From lm-eval's results; tasks whose answers are no texts where they are wanted, as direct."""
    kinds = {task: of["output_type"] for task, of in results["configs"].items()}
    parts: Mapping[str, Sequence[str]] = results.get("group_subtasks", {})

    def writes(task: str) -> bool:
        return kinds[task] == WRITES if task in kinds else any(writes(part) for part in parts.get(task, ()))

    for task, figures in results["results"].items():
        written = writes(task)
        if not (written or also_unwritten):
            continue
        numbers = {key: value for key, value in figures.items() if "," in key and isinstance(value, int | float)}
        filters = {key.partition(",")[2] for key in numbers}
        plain: dict[str, float] = {}
        errors: dict[str, float] = {}
        for key, value in numbers.items():
            metric, _, by = key.partition(",")
            named = metric.removesuffix("_stderr") + (f",{by}" if len(filters) > 1 else "")
            (errors if metric.endswith("_stderr") else plain)[named] = value
        rows = results.get("n-samples", {}).get(task, {}).get("effective")
        samples = results.get("samples", {}).get(task, ())
        yield Measured(task, mode if written else "direct", plain, errors, rows, samples)
