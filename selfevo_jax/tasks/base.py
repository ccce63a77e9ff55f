"""The seam between a run and what it is about: where its rows come from, and what its answers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from selfevo_jax.config import Config
from selfevo_jax.data import EvaluationRow, MetaRow, PromptRow, QARow
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.scorers import Scorer

Cut = Callable[[str], str]
"""From a text to the part of it, from its beginning on, that is the answer."""


@dataclass(frozen=True)
class Questions:
    """Prompts that the base is to answer, since D_meta is written about its answers."""

    rows: Sequence[PromptRow]
    samples: int = 1
    """Answers to each."""
    temperature: float = 1.0


@dataclass(frozen=True)
class Answer:
    """One answer of the base."""

    id: str
    """Of the question."""
    sample: int
    text: str
    finished: bool
    """Whether it came to its own end, rather than to a limit."""


@dataclass(frozen=True)
class BuiltMeta:
    """D_meta as a task makes it."""

    rows: Sequence[MetaRow]
    counts: Mapping[str, int] = field(default_factory=dict)
    """In words, what became of the answers that it is written about: those that were used, and those that were not."""
    own: Sequence[QARow] = ()
    """Answers of the base that are taught as they are, as rows of D_QA, so that it keeps its own way of answering."""


class Task(Protocol):
    """Nothing outside a task knows what its answers are. Everything is read, and so checked, when it is opened."""

    @property
    def name(self) -> str: ...
    @property
    def scorer(self) -> Scorer:
        """Reads the gold answers of prompts, where they are known: after a round has learnt, to measure alone. It makes
        the wrong answers of controls, too."""
        ...

    def notices(self) -> Sequence[str]:
        """What the user should know of the rows, with the counts."""
        ...

    def files(self) -> Mapping[str, str]:
        """Config key -> each file that rows come from: a run is held to their checksums."""
        ...

    def prompts(self, round: int) -> Sequence[PromptRow]:
        """The unlabeled prompts of a round; the same whenever they are asked for."""
        ...

    def gold(self, round: int) -> Mapping[str, EvaluationRow]:
        """Prompt id -> row, where its gold answer is known."""
        ...

    def evaluation(self) -> Mapping[str, EvaluationSet]: ...
    def qa_rows(self) -> Sequence[QARow]: ...

    @property
    def has_meta(self) -> bool:
        """Whether there is a D_meta."""
        ...

    def questions(self) -> Questions | None:
        """None where D_meta needs no answers of the base."""
        ...

    def meta_rows(self, answers: Sequence[Answer]) -> BuiltMeta:
        """D_meta, given the answers to its questions. No rows where nothing can be written about them."""
        ...

    @staticmethod
    def cut_for(config: Config) -> Cut | None:
        """What cuts off what runs on behind the end of an answer (an invented next question), in runs of this config,
        whose rows need not be there; None where nothing does."""
        ...
