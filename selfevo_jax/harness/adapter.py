"""Our engine as a model of lm-evaluation-harness. Imported only where the package lm-eval is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from selfevo_jax.errors import ConfigError
from selfevo_jax.harness.answers import Answers, Settings

_DRAWS = 1000
"""For the standard errors of metrics that are no means."""


class Answering(LM):
    """Every process of several answers all requests: the engine itself is spread over them."""

    def __init__(self, answers: Answers, refined: bool) -> None:
        super().__init__()
        self._answers, self._refined = answers, refined

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """The response to each context, or the candidate that the model's own feedback chose."""
        asked = [(context, Settings.of(given)) for context, given in (request.args for request in requests)]
        rollouts = self._answers.texts(asked)
        return [r.candidates[r.chosen if self._refined else 0].text for r in rollouts]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Of each continuation behind its context: its log-probability, and whether it is the greedy text."""
        found = self._answers.likelihoods([request.args for request in requests])
        return [(one.logprob, one.greedy) for one in found]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """The log-probability of each whole text."""
        return self._answers.rolling([request.args[0] for request in requests])


class Tasks:
    """Tasks by their names, or by the paths of their YAML files."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ConfigError for a name that neither lm-eval nor a file has."""
        files = [name for name in names if name.endswith((".yaml", ".yml"))]
        if missing := next((file for file in files if not Path(file).is_file()), None):
            raise ConfigError(f"--harness: {missing}: no such file; name a YAML file of a task of lm-eval")
        self._names = list(names)
        # looking through its thousands of tasks takes seconds
        self._manager = TaskManager(include_defaults=len(files) < len(names))
        unknown = [name for name in names if name not in files and not self._manager.match_tasks([name])]
        if unknown:
            raise ConfigError(
                f"--harness: lm-eval has no task '{unknown[0]}'; its tasks: lm-eval ls tasks. One of your own is named "
                "by its file, TASK.yaml"
            )
        self._manager.load(self._names)  # a task that cannot be read, or its rows, is refused before a model is opened

    def evaluate(self, answers: Answers, refined: bool, limit: int | None) -> dict[str, Any]:
        """What lm-eval finds, with the samples of each task."""
        # it would fork this process, whose threads (JAX's) hold locks
        os.environ.setdefault("DISABLE_MULTIPROC", "1")
        found: dict[str, Any] = simple_evaluate(
            model=Answering(answers, refined),
            tasks=self._names,
            task_manager=self._manager,
            limit=limit,
            bootstrap_iters=_DRAWS,
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
        return found
