"""Where the files of a run lie."""

from __future__ import annotations

from pathlib import Path

from selfevo_jax.run.names import (
    CHECKPOINTS,
    CODE,
    CONFIG,
    COSTS,
    EVALUATIONS,
    META,
    OPEN,
    ORDINARY,
    PAGE,
    REPORT,
    ROUNDS,
    TRAINING,
)


class Paths:
    """The one place that knows the paths below a run directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def config_file(self) -> Path:
        return self.root / CONFIG

    @property
    def report_file(self) -> Path:
        return self.root / REPORT

    @property
    def page_file(self) -> Path:
        """The page of the run (`report.html`); made of other records, and of costs."""
        return self.root / PAGE

    @property
    def costs_file(self) -> Path:
        """Tokens, steps and seconds of every rollout, one line each: the one record that differs between equal runs."""
        return self.root / COSTS

    @property
    def code_file(self) -> Path:
        """Of a run that names parts from outside: key -> checksum of its code."""
        return self.root / CODE

    def meta(self, name: str) -> Path:
        return self.root / META / name

    def round(self, number: int, name: str) -> Path:
        return self.root / ROUNDS / f"{number:04d}" / name

    def checkpoint(self, name: str) -> Path:
        return self.root / CHECKPOINTS / name

    def training_states(self, name: str) -> Path:
        """The states inside the fine-tuning that ends in a checkpoint, while it goes on."""
        return self.root / TRAINING / name

    def evaluation(self, name: str) -> Path:
        return self.root / EVALUATIONS / f"{name}.json"

    def texts(self, name: str, set_name: str) -> Path:
        """The rollouts behind an evaluation."""
        return self.root / EVALUATIONS / name / f"{set_name}.jsonl"

    def open_ended(self, name: str) -> Path:
        """The figures of a checkpoint on open-ended prompts."""
        return self.root / OPEN / f"{name}.json"

    def judged(self, name: str, set_name: str) -> Path:
        """Prompt by prompt the answers, and what was said of them."""
        return self.root / OPEN / name / f"{set_name}.jsonl"

    def said(self, name: str, set_name: str) -> Path:
        """Each text that was sampled, or asked for, as it came."""
        return self.root / OPEN / name / "texts" / f"{set_name}.jsonl"

    def ordinary(self, name: str) -> Path:
        """How probable a checkpoint finds the held-out ordinary answers."""
        return self.root / ORDINARY / f"{name}.json"
