"""STaR: what is right is learnt, and what was right only after a look at the gold answer, as if there had been none.

Source: Zelikman et al., "STaR: Bootstrapping Reasoning With Reasoning", arXiv 2203.14465.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from selfevo_jax.chains import RefineChain, StageParams, TwoAnswersChain
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods.base import Bench, Draws
from selfevo_jax.methods.self_refine import SelfRefine
from selfevo_jax.text import without_working


@dataclass(frozen=True)
class Star(SelfRefine):
    """Reads labels: a baseline, no self-improvement. Each prompt is answered twice, the second time with a hint that
    holds the gold answer; a judge that reads labels chooses the first answer that is right. The hinted answer is drawn
    for every prompt and not, as in the paper, for the wrong ones alone: whether an answer is right is known when all
    chains are there. What is learnt is the same."""

    hint: str | None = "{prompt}\n(Hint: the answer is {answer}.)"
    """The text that is answered the second time: `{prompt}`, and columns of the gold row in braces, of a worked
    solution the answer that it ends in ("#### 18"), of a choice its letter, of several right answers the first, of
    another list all that is in it, with commas. None: there is no second time."""
    name: str = "star"
    reads_labels: bool = True
    settings: ClassVar[tuple[str, ...]] = ("hint",)
    fixed: ClassVar[tuple[str, ...]] = ("rounds.turns",)

    def __post_init__(self) -> None:
        """Raises ConfigError for a judge that does not know what is right, and a hint that holds no label."""
        super().__post_init__()
        batch = self.config.judge.batch
        if batch is None or not batch.reads_labels:
            found = "none" if batch is None else batch.kind
            raise ConfigError(
                f"judge.batch.kind: found {found}, but {self.name} learns what is right; set it to scorer"
            )
        if self.hint is not None and ("{prompt}" not in self.hint or self.hint.count("{") < 2):
            raise ConfigError(
                f"method.settings.hint: found {self.hint!r}, expected a text with {{prompt}} and a column of the gold "
                "rows, such as {answer}; or null"
            )

    @property
    def draws(self) -> Draws:
        return Draws(respond=1 if self.hint is None else 2)

    def chain(self, bench: Bench, row: Any, stages: StageParams, *, round: int, sample: int) -> RefineChain:
        if self.hint is None:
            return bench.chain(row, stages, round=round, sample=sample, judge=False)
        if getattr(row, "columns", None) is None:
            raise ConfigError(
                f"prompt '{row.id}' has no gold answer that can be scored, but {self.name} shows it as a hint; add it, "
                "or set method.settings.hint=null"
            )
        gold = self.config.data.primary.scorers[0].told(row)
        texts = {name: written(of) for name, of in gold.items()}
        hinted = filled(self.hint, {"prompt": row.prompt, **texts})
        kind, stage = TwoAnswersChain, "hinted"
        return bench.chain(row, stages, round=round, sample=sample, judge=False, kind=kind, second=hinted, stage=stage)


def written(value: Any) -> str:
    """What a column holds as a person would write it: of a worked solution what it ends in, of a list its parts with
    commas between them; nothing for null."""
    if isinstance(value, list):
        return ", ".join(map(written, value))
    if isinstance(value, str):
        return without_working(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def filled(hint: str, columns: Mapping[str, str]) -> str:
    """The text with columns in the places of their names. Raises ConfigError for a name that is none."""

    def column(found: re.Match[str]) -> str:
        if found[1] not in columns:
            raise ConfigError(
                f"method.settings.hint: found {{{found[1]}}}, but gold rows have {', '.join(columns)}; name one of them"
            )
        return columns[found[1]]

    return re.sub(r"\{(\w+)\}", column, hint)
