"""What the phases of a run work with, and what they have made so far."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from selfevo_jax.chains import Rollout
from selfevo_jax.config import Config
from selfevo_jax.data import MetaRow, QARow
from selfevo_jax.methods import Method
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.checkpoints import Checkpoints
from selfevo_jax.rounds.open_sets import OpenSet
from selfevo_jax.rounds.ordinary import Ordinary
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.run.names import META
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.tasks import Task
from selfevo_jax.text import PromptFormat


@dataclass(frozen=True)
class Loop:
    """One run."""

    config: Config
    reporter: Reporter
    task: Task
    dir: RunDir
    bench: Workbench
    checkpoints: Checkpoints
    open_sets: Mapping[str, OpenSet] = field(default_factory=dict)
    """Prompts without gold answers, by the names of their sets."""

    ordinary: Ordinary | None = None
    """Held-out answers that people have written."""

    @property
    def method(self) -> Method:
        return self.bench.method

    def seed(self, round: int) -> int:
        """Of what a round draws on the host."""
        return self.config.seed_of(round)

    def way_on(self, round: int) -> str:
        """The command that goes on from before a round with other settings."""
        start = META if round == 1 else str(round - 1)
        run = shlex.quote(str(self.dir.root))
        return f"`selfevo fork {run} NEW --from {start} KEY=VALUE` goes on from there with other settings"

    def tell_notes(self) -> None:
        """What was put in order in the run directory."""
        for note in self.dir.take_notes():
            self.reporter.warn(note)


@dataclass(frozen=True)
class History:
    """What a run has made so far, for its method."""

    format: PromptFormat
    rollouts: Callable[[int], Sequence[Rollout]]
    meta_rows: Callable[[], Sequence[MetaRow]]
    qa_rows: Callable[[], Sequence[QARow]]
