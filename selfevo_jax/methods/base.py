"""The seam between the loop and what it does: what is asked about a prompt, what is kept, and what is learnt of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from selfevo_jax.chains import Generated, RefineChain, Rollout, StageParams
from selfevo_jax.data import MetaRow, QARow, Unit
from selfevo_jax.judges import BatchJudge, ChainJudge
from selfevo_jax.methods.selection import Selection
from selfevo_jax.text import PromptFormat
from selfevo_jax.text.tokenizer import BaseTokenizer
from selfevo_jax.train import Objective

BASE, META = "base", 0
"""Where a fine-tuning starts from: M_0, M_meta (round 0), or the number of a round."""


class Bench(Protocol):
    """What a method needs of a run's workbench to make chains: that of SELF, or the parts of one of its own."""

    @property
    def format(self) -> PromptFormat: ...
    @property
    def judge(self) -> ChainJudge: ...
    @property
    def tokenizer(self) -> BaseTokenizer: ...
    def chain(
        self,
        row: Any,
        stages: StageParams,
        *,
        round: int,
        sample: int = 0,
        judge: bool = True,
        turns: int | None = None,
        stop_when_good: bool = True,
        kind: Callable[..., RefineChain] = RefineChain,
        **own: Any,
    ) -> RefineChain: ...

    @property
    def batch(self) -> BatchJudge | None:
        """A judge of finished chains; None: their own feedback decides."""
        ...


class Made(Protocol):
    """What a run has made so far; read, and sampled, when it is asked for."""

    @property
    def format(self) -> PromptFormat: ...
    def rollouts(self, round: int) -> Sequence[Rollout]: ...
    def meta_rows(self) -> Sequence[MetaRow]: ...
    def qa_rows(self) -> Sequence[QARow]: ...


@dataclass(frozen=True)
class Draws:
    """How many texts a chain draws at most, by the stage whose settings they are drawn with."""

    respond: int = 1
    feedback: int = 0
    """Answers that feedback is asked on; on each there are as many texts of it as the judge asks for."""
    refine: int = 0


@dataclass(frozen=True)
class Learning:
    """A fine-tuning."""

    start: str | int
    """BASE, or the round whose checkpoint it starts from."""
    groups: Mapping[str, Sequence[Unit]]
    """Examples, and groups that an objective compares, by the names of `selfevo_jax.methods.mixture`."""
    notices: tuple[str, ...] = ()
    """What the user should know of it."""
    objective: Objective | None = None
    """What it makes small; None: what `learn.objective` names."""


class Method(Protocol):
    """One way to improve a model. Pure: the same rollouts always give the same choice and the same lesson."""

    @property
    def name(self) -> str: ...
    @property
    def reads_labels(self) -> bool:
        """Whether a round reads gold answers; a run says so at its start and in its report."""
        ...

    @property
    def judges(self) -> bool:
        """Whether its chains ask for feedback; planted controls are shown to a judge alone."""
        ...

    @property
    def draws(self) -> Draws:
        """What a chain draws; `selfevo plan` and `--check` count by it."""
        ...

    @property
    def filters(self) -> bool:
        """Whether feedback decides what, or how much, is kept."""
        ...

    @property
    def keeps_base(self) -> bool:
        """Whether fine-tunings of rounds start from M_0, which then stays in memory."""
        ...

    def chain(self, bench: Bench, row: Any, stages: StageParams, *, round: int, sample: int) -> Generated[Rollout]:
        """What is asked about one sample of a prompt. A method that reads labels is given the prompt's row with its
        gold answer, where that is known."""
        ...

    def select(self, rollouts: Sequence[Rollout], round: int) -> Selection:
        """What is kept of a round."""
        ...

    def learning(self, made: Made, round: int) -> Learning:
        """What a round learns from, and from which parameters on."""
        ...
