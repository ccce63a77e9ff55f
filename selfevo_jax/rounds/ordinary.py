"""Held-out answers that people have written: how probable each checkpoint finds them, read by training's own pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfevo_jax import notice
from selfevo_jax.config import Config, RoundsSection
from selfevo_jax.data import Example, QARow, Tell, qa_example, read_qa, source_checksum
from selfevo_jax.errors import ConfigError
from selfevo_jax.evaluate import ordinary_figures
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.tasks import Task, check_held_out
from selfevo_jax.train import sequence_logps

KEY = "data.ordinary"


def ordinary_rows(config: Config, tell: Tell | None = None) -> list[QARow]:
    """None of them where the config names no file. Raises DataError for a row that cannot be used."""
    section = config.data.ordinary
    if section is None:
        return []
    return read_qa(section.source, columns=section.columns, limit=config.data.evaluation_rows, tell=tell)


def ordinary_print(config: Config) -> dict[str, str]:
    """What the figures rest on beside the config."""
    section = config.data.ordinary
    return {} if section is None else {KEY: source_checksum(section.source)}


def check_ordinary(rows: Sequence[QARow], task: Task, rounds: RoundsSection) -> None:
    """Raises DataError where a run of these rounds is trained on a prompt of these rows."""
    if not rows:
        return
    asked = task.questions()
    meta = asked.rows if asked is not None else task.meta_rows(()).rows if task.has_meta else ()
    given = [row for number in range(1, rounds.last_given + 1) for row in task.prompts(number)]
    check_held_out("ordinary", rows, {"prompts": given, "meta_skill": meta, "qa": task.qa_rows()})


@dataclass(frozen=True)
class Ordinary:
    """Rows as a model meets them: prompts in the format of direct answers, with the answers and their ends."""

    rows: int
    examples: Sequence[Example]
    """Those of the rows that the model has positions for."""
    lost: Sequence[str]
    """Ids of the others."""

    @classmethod
    def of(cls, rows: Sequence[QARow], bench: Workbench) -> Ordinary | None:
        """None where there are no rows. Raises ConfigError where none of them fits into the model's positions."""
        if not rows:
            return None
        made, most = [qa_example(row, bench.format) for row in rows], bench.model.positions
        fit = [example for example in made if len(example) <= most]
        if not fit:
            raise ConfigError(
                f"{KEY}: the shortest of its {len(made)} rows has {min(map(len, made))} tokens, but the model has "
                f"{most} positions; give shorter rows"
            )
        return cls(len(made), fit, [example.id for example in made if len(example) > most])

    def notice(self) -> str | None:
        """What the user should know."""
        if not self.lost:
            return None
        return (
            f"{KEY}: {len(self.lost)} of its {self.rows} rows are longer than the model's positions (such as "
            f"'{self.lost[0]}'); they are counted, and are in no figure"
        )

    def measure(self, bench: Workbench, params: Any, title: str, reporter: Reporter) -> dict[str, Any]:
        """An `OrdinaryFigures` as plain values. `params`: fp32, laid out for training."""
        with reporter.task(title, len(self.examples), "rows") as meter:

            def done(count: int) -> None:
                meter.set(count)
                notice.stop_if_given(f"while {title}")

            logps = sequence_logps(params, bench.model, self.examples, bench.mesh, on_done=done)
        found: dict[str, tuple[float, int] | None] = dict.fromkeys(self.lost)
        for example, logp in zip(self.examples, logps, strict=True):
            found[example.id] = logp, int(example.weights.sum())
        return asdict(ordinary_figures(found))
