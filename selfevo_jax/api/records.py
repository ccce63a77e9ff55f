"""A run as its directory tells it: figures, chains and costs as plain values. Safe on a live run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfevo_jax.api.model import Model, load
from selfevo_jax.chains import Rollout
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.progress import counted
from selfevo_jax.report import MODES, Summary, rollouts_of, summarize, verdict_on_run
from selfevo_jax.run import Cost, RunDir, costs
from selfevo_jax.run.chosen import point_named, run_named
from selfevo_jax.run.costs import finished_rounds
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.names import BASE, LOSSES, META, REMOVED, name_of


@dataclass(frozen=True)
class Checkpoint:
    """A model that a run has made."""

    name: str
    """`meta`, or the number of the round in four digits."""
    round: int
    """0 for M_meta."""
    path: str
    """What `load` takes."""
    kept: bool
    """False where `saving.keep_last` has removed its arrays."""


@dataclass(frozen=True)
class Accuracy:
    """The share of right answers of one checkpoint on one evaluation set, with its Wilson interval of 95 %."""

    checkpoint: str
    """`base`, `meta`, or `round 1` and so on."""
    set: str
    mode: str
    """`direct`, `refined`, `consistency` (a vote of direct answers) or `both` (of refined ones)."""
    scorer: str
    share: float | None
    """From 0 to 1; None where no row could be scored."""
    low: float | None
    high: float | None
    n: int
    """Rows in the share."""


@dataclass(frozen=True)
class Step:
    """One step of a fine-tuning."""

    step: int
    """From 1."""
    loss: float
    """Before the update; for `sft` in nats a token."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: float
    """Read, padding not counted."""


def read_run(path: str | Path) -> Run:
    """A run by its directory, here or on `gs://`, finished or not; `RUN@2` and a checkpoint inside it name it, too.

    Raises ConfigError where no run lies there, or one of another format.
    """
    run = run_named(str(path))
    run.require_run()
    return Run(run)


class Run:
    """A run; made by `read_run` and `evolve`. Everything is read when it is asked for, so that it may be asked again
    while the run goes on. Every method raises SelfevoError for what no run has written. Methods take a checkpoint as
    `base`, `meta` or a round: 1, `1`, `0001` or `round 1`; they raise ConfigError for what is none."""

    def __init__(self, run: RunDir) -> None:
        self._run = run

    def __repr__(self) -> str:
        try:
            summary = self.summary()
        except SelfevoError:  # the figures may be what is broken
            return f"<Run {self.path}>"
        done = "complete" if summary.complete else f"of {self.config.rounds.number} so far"
        return f"<Run {self.path}: {counted(len(summary.rounds), 'round')}, {done}>"

    @property
    def path(self) -> str:
        return str(self._run.root)

    @property
    def config(self) -> Config:
        return self._run.read_config()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.summary().complete

    def summary(self) -> Summary:
        """All figures: what `selfevo report --json` shows."""
        return summarize(self._run)

    def verdict(self) -> str:
        """One sentence: better, worse, or within the noise; and one against the base where that is another answer."""
        return verdict_on_run(self.summary())

    def checkpoints(self) -> list[Checkpoint]:
        """Those that are finished, in their order."""
        return [
            Checkpoint(name_of(round), round, str(folder), not (folder / REMOVED).exists())
            for round in finished_rounds(self._run)
            for folder in [self._run.checkpoint(name_of(round))]
        ]

    def accuracies(self) -> list[Accuracy]:
        """Of each checkpoint on each set, in every mode and by every scorer that was asked for."""
        found = []
        for row in self.summary().rows:
            first = next(iter(row.scorers), "")
            by_scorer = {first: {mode: getattr(row, mode) for mode in MODES}, **row.further}
            for scorer, modes in by_scorer.items():
                for mode, of in modes.items():
                    if of is not None:
                        share, low, high, n = (of[key] for key in ("share", "low", "high", "n"))
                        found.append(Accuracy(row.checkpoint, row.set, mode, scorer, share, low, high, n))
        return found

    def chains(self, round: int | str) -> Iterator[Rollout]:
        """Every chain of a finished rollout, by prompt and sample; of a round with a batch judge, when it has judged,
        each with what it says (`assessment`), and `chosen` by that.

        Raises ConfigError where the round has not sampled all of its chains.
        """
        name = point_named(round)
        if name in (BASE, META):
            raise ConfigError(f"{self.path}: found '{name}', but only rounds have chains; expected 1 and so on")
        number = int(name)
        if not self._run.round(number, "rollouts/manifest.json").exists():
            raise ConfigError(f"{self.path}: round {number} has no finished chains; see `selfevo status {self.path}`")
        return rollouts_of(self._run, number)

    def steps(self, checkpoint: int | str) -> list[Step]:
        """Of the fine-tuning that made a checkpoint; none where nothing was trained, as of `base`, or by a version that
        kept no steps.

        Raises ConfigError where the run has not finished it.
        """
        name = point_named(checkpoint)
        if name == BASE:
            return []
        if name not in {of.name for of in self.checkpoints()}:
            raise ConfigError(f"{self.path}: no finished checkpoint '{name}'; expected {META}, 0001 and so on")
        file = self._run.checkpoint(name) / LOSSES
        with understood(file):
            return [Step(**row) for row in (read_rows(file) if file.exists() else [])]

    def costs(self) -> list[Cost]:
        """Seconds and tokens of every phase; those of one kind add up."""
        return costs(self._run)

    def load(self, round: int | str | None = None) -> Model:
        """The model of a round, `meta` or `base`; None: the newest. Errors are those of `load`."""
        return load(self.path if round is None else f"{self.path}@{point_named(round)}")
