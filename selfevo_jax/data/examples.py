"""From rows to token sequences with a weight on each token that is to be learnt.

The mask is made by construction: every sequence is joined from pieces, and each piece says what its tokens weigh as
targets. Nothing is searched for in finished text, so a template without markers or a stop token that equals the
padding token cannot move the mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from selfevo_jax.errors import ConfigError, EmptySelectionError, ModelError


class Layout(Protocol):
    """What is needed of a prompt format: append-only prompts, written texts that go on from them, and the tokens that
    end a text."""

    @property
    def end(self) -> Sequence[int]: ...

    def respond(self, prompt: str) -> Sequence[int]: ...

    def judge(self, so_far: Sequence[int]) -> Sequence[int]: ...

    def refine(self, so_far: Sequence[int]) -> Sequence[int]: ...

    def continuation(self, so_far: Sequence[int], text: str) -> Sequence[int]: ...


class MetaLike(Protocol):
    """A row (p, r, f, r-hat) of D_meta."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def response(self) -> str: ...
    @property
    def feedback(self) -> str: ...
    @property
    def refinement(self) -> str: ...
    @property
    def good(self) -> bool: ...


class QALike(Protocol):
    """A row (prompt, answer) of D_QA."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Example:
    """One sequence to learn from: `tokens` int32 [L], and `weights` float32 [L].

    `weights[i]` is the weight of token i *as a target* (0: it is only read), so `weights[0]` is 0.
    """

    id: str
    term: str
    """Which term of the loss it serves: `meta` (feedback and refinement), `direct`, `qa` or `self`."""
    tokens: np.ndarray
    weights: np.ndarray
    extras: Mapping[str, float | np.ndarray] = field(default_factory=dict)
    """Finite numbers for an objective that reads more than weights: a verdict, an advantage. One for the whole
    example, or float32 `[L]` (`[L, K]`) with those of each token as a target."""
    teacher: Example | None = None
    """The same targets behind another context, for an objective that compares what the model says in both."""

    def __post_init__(self) -> None:
        for name, value in self.extras.items():
            if not np.all(np.isfinite(value)):
                raise ValueError(f"example {self.id!r}: {name} is {value}, expected a finite number")
            if np.ndim(value) and len(np.asarray(value)) != len(self.tokens):
                raise ValueError(f"example {self.id!r}: {name} has shape {np.shape(value)}, tokens {self.tokens.shape}")
        if self.tokens.ndim != 1 or self.tokens.shape != self.weights.shape or not len(self.tokens):
            raise ValueError(f"example {self.id!r}: tokens {self.tokens.shape} and weights {self.weights.shape}")
        if self.weights[0]:
            raise ModelError(
                f"row {self.id!r}: its first token is a target, but nothing predicts it; the prompt format must put "
                "at least one token (a BOS or some text) before the answer"
            )
        if self.teacher is not None and not np.array_equal(self.targets, self.teacher.targets):
            raise ValueError(f"example {self.id!r}: its teacher has other targets, expected the same ones in order")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def targets(self) -> np.ndarray:
        """int32: the tokens that are learnt, in their order."""
        return self.tokens[self.weights != 0]

    @property
    def members(self) -> tuple[Example, ...]:
        """Itself: what a row holds of it, as of a group."""
        return (self,)


@dataclass(frozen=True, eq=False)
class Group:
    """Examples that an objective compares, such as a better and a worse answer: they lie in one row, one directly
    behind the other in this order. It is drawn, counted and dropped as one."""

    members: tuple[Example, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("a group without examples")

    @property
    def id(self) -> str:
        return self.members[0].id

    def __len__(self) -> int:
        """Tokens."""
        return sum(map(len, self.members))


Unit = Example | Group
"""What is drawn and laid in a row as one."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of -( feedback log P(f|p,r) + refine log P(r^|p,r,f) + direct log P(r^|p) ); 0 leaves a term out."""

    feedback: float = 1.0
    refine: float = 1.0
    direct: float = 1.0

    def __post_init__(self) -> None:
        for name in ("feedback", "refine", "direct"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ConfigError(f"term weight {name} is {value}, expected a finite number of 0 or more")


Piece = tuple[Sequence[int], float]


def joined(id: str, term: str, pieces: Sequence[Piece]) -> Example:
    """A sequence of pieces of ids, each with the weight of its tokens as targets."""
    tokens = np.concatenate([np.asarray(ids, np.int32).reshape(-1) for ids, _ in pieces])
    weights = np.concatenate([np.full(len(ids), weight, np.float32) for ids, weight in pieces])
    return Example(id, term, tokens, weights)


def _appended(longer: Sequence[int], shorter: Sequence[int], end: Sequence[int], what: str) -> Sequence[int]:
    """What `longer` adds to `shorter`; it must begin with the end-of-text tokens, as the model meets it in sampling."""
    size = len(shorter)
    if list(longer[:size]) != list(shorter):
        raise ModelError(f"prompt format: {what} changes the tokens before it; prompts must be append-only")
    added = list(longer[size:])
    if added[: len(end)] != list(end):
        raise ModelError(
            f"prompt format: {what} begins with tokens {added[: len(end)]}, expected the end of a text {list(end)}"
        )
    return added


def _written(head: Sequence[int], text: str, fmt: Layout) -> list[int]:
    """A written text behind `head`, as the model would meet it, and its end."""
    return [*fmt.continuation(head, text), *fmt.end]


def meta_examples(row: MetaLike, fmt: Layout, weights: TermWeights | None = None) -> list[Example]:
    """Two sequences of a D_meta row: `[respond(p) r J f end R r^ end]`, and the direct `[respond(p) r^ end]`.

    Targets are f and r^, each with its end, and in the direct one r^ with its end. Of a row whose response is right
    (`good`) the first ends with its feedback, as a chain does. A sequence whose targets all weigh 0 is left out.
    Source: SELF (arXiv 2310.00533), equation of the meta-skill loss. Raises ModelError when the format is not
    append-only.
    """
    weights = TermWeights() if weights is None else weights
    end = list(fmt.end)
    head = list(fmt.respond(row.prompt))
    out = []
    if weights.feedback or (weights.refine and not row.good):
        answered = [*head, *fmt.continuation(head, row.response)]
        judged = list(fmt.judge(answered))
        _appended(judged, answered, end, "the judge prompt")
        feedback = _written(judged, row.feedback, fmt)
        pieces: list[Piece] = [(judged, 0.0), (feedback, weights.feedback)]
        if not row.good:
            reviewed = [*judged, *feedback[: len(feedback) - len(end)]]
            asked = list(fmt.refine(reviewed))
            added = _appended(asked, reviewed, end, "the refine prompt")
            pieces += [(added[len(end) :], 0.0), (_written(asked, row.refinement, fmt), weights.refine)]
        out.append(joined(row.id, "meta", pieces))
    if weights.direct:
        out.append(joined(row.id, "direct", [(head, 0.0), (_written(head, row.refinement, fmt), weights.direct)]))
    return out


def qa_example(row: QALike, fmt: Layout, weight: float = 1.0) -> Example:
    """`[respond(p) answer end]` with the answer and its end as targets: plain supervised learning on D_QA."""
    head = fmt.respond(row.prompt)
    return joined(row.id, "qa", [(head, 0.0), (_written(head, row.answer, fmt), weight)])


def self_example(
    id: str, prompt: str, answer: Sequence[int], end: Sequence[int], fmt: Layout, weight: float = 1.0
) -> Example:
    """`[respond(p) answer end]` of a self-made answer: the ids that were sampled, and the end that the model itself
    said.

    Without an end (the answer was cut, or ended by what is no end of this format) none is taught: it must not teach
    the model to stop where it would have gone on.
    """
    return joined(id, "self", [(fmt.respond(prompt), 0.0), ([*answer, *end], weight)])


def by_term(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Examples grouped by their term, in order."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.term, []).append(example)
    return groups


AnyUnit = TypeVar("AnyUnit", bound=Unit)


def fit_length(examples: Sequence[AnyUnit], max_length: int) -> tuple[list[AnyUnit], int]:
    """The examples (and groups) of at most `max_length` tokens with at least one target each, and how many were
    dropped.

    Dropped whole, never cut: a cut answer would lose its end. Raises EmptySelectionError when none is left.
    """
    kept = [e for e in examples if len(e) <= max_length and all(member.weights.any() for member in e.members)]
    if not kept:
        shortest = min((len(e) for e in examples), default=0)
        raise EmptySelectionError(
            f"nothing is left to learn from: none of {len(examples)} examples has a target and fits in {max_length} "
            f"tokens (the shortest has {shortest}); raise the row length or give more rows"
        )
    return kept, len(examples) - len(kept)
