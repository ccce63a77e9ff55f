"""What became of a prompt: its turns with their texts and token ids, as the run keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import indent
from typing import Any

from selfevo_jax.errors import SelfevoError
from selfevo_jax.judges import Assessment
from selfevo_jax.progress import hanging
from selfevo_jax.sample import Finish, is_whole

CUT: Finish = "cut"
"""The finish of a text behind whose own end something ran on, which was cut off; the model did not end it there."""
DIGITS = 6
"""Decimals of log-probabilities in records."""


@dataclass(frozen=True)
class Feedback:
    """The model's own judgement of a candidate. Clipped feedback is kept as text but is never a verdict.

    `tokens`, `end` and `logprobs` are as those of a candidate. Where several texts were asked for, `good` and `rating`
    are what they say together, and the text is the one that the chain went on from.
    """

    text: str
    finish: str
    good: bool | None
    rating: float | None
    tokens: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    members: tuple[Feedback, ...] = ()
    """Where several texts were asked for: each of them, as it was read by itself."""
    error: str | None = None
    """The engine's message where it could not be asked for (finish `error`); a record has it in its rollout alone."""

    @property
    def texts(self) -> tuple[Feedback, ...]:
        """Every text of feedback on the candidate."""
        return self.members or (self,)

    @property
    def unread(self) -> int:
        """Texts that could not be read, or not be asked for."""
        return sum(text.good is None for text in self.texts)

    def lines(self) -> list[str]:
        """For people: each text, and the score where there is more to it than one text says."""
        if not self.members:
            score = "" if self.rating is None else f" ({self.rating:g})"
            return [f"feedback{score}: {hanging(self.text)}"]
        said = {None: "cannot be read", True: "good", False: "bad"}
        score = said[self.good] if self.rating is None else f"{said[self.good]}, {self.rating:g}"
        return [
            f"feedback of {len(self.members)} texts: {score}",
            *(indent(f"{said[text.good]}: {hanging(text.text)}", "  ") for text in self.members),
        ]


@dataclass(frozen=True)
class Candidate:
    """A response or a refinement."""

    text: str
    finish: str
    tokens: tuple[int, ...]
    """As they were drawn; training sees these and no others."""
    feedback: Feedback | None = None
    end: tuple[int, ...] = ()
    """What was drawn behind them and ended the text (see `Completion.end`)."""
    logprobs: tuple[float, ...] = ()
    """Of `tokens` and then of `end`, natural logarithms. Their last bits depend on the shape of the batch, so records
    leave them out: those are the same bytes whatever the slots and interruptions."""
    assessment: Assessment | None = None
    """What a batch judge says of it, where there is one; in a record of its own."""

    @property
    def judged(self) -> Feedback | Assessment | None:
        """What decides about it: a batch judge where there is one, else the feedback. None: nothing does."""
        return self.feedback if self.assessment is None else self.assessment

    @property
    def verdict(self) -> bool | None:
        """Whether it is called good; None where nothing decides about it, or what does cannot be read."""
        return None if self.judged is None else self.judged.good

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    @property
    def clipped(self) -> bool:
        """Whether it hit a limit."""
        return self.finish in ("length", "cache")

    @property
    def finished(self) -> bool:
        """Whether the text came to its own end; behind a cut it is whole, but the model said no end there."""
        return is_whole(self.finish)


@dataclass(frozen=True)
class Rollout:
    """What became of a prompt: candidates[0] is the response, the others are refinements in their order."""

    id: str
    sample: int
    prompt: str
    candidates: tuple[Candidate, ...]
    chosen: int
    error: str | None = None
    """The engine's message where a request of the chain could not be run."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without log-probabilities."""
        candidates = [
            _plain(c) | {"feedback": None if c.feedback is None else feedback_record(c.feedback)}
            for c in self.candidates
        ]
        return {**vars(self), "candidates": candidates}

    def scores(self) -> dict[str, Any]:
        """The log-probabilities of every turn as plain JSON values, to DIGITS decimals."""

        def rounded(part: Candidate | Feedback | None) -> list[float] | None:
            return None if part is None else [round(x, DIGITS) for x in part.logprobs]

        turns = [
            {"candidate": rounded(c), "feedback": rounded(c.feedback)}
            | ({"members": list(map(rounded, c.feedback.members))} if c.feedback and c.feedback.members else {})
            for c in self.candidates
        ]
        return {"id": self.id, "sample": self.sample, "turns": turns}

    def assessed(self, by_candidate: Sequence[Assessment]) -> Rollout:
        """With what a batch judge says of each candidate, and the one that it chooses by that."""
        candidates = tuple(replace(c, assessment=a) for c, a in zip(self.candidates, by_candidate, strict=True))
        return replace(self, candidates=candidates, chosen=choose(candidates))

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Rollout:
        """The inverse of to_dict, but for log-probabilities and errors of feedback. Raises SelfevoError for a row
        without token ids."""

        def fields(part: dict[str, Any]) -> dict[str, Any]:
            if "tokens" not in part:
                raise SelfevoError(
                    f"rollout '{tree['id']}', sample {tree['sample']}: no token ids in it: the run was begun by "
                    "an older version of selfevo, which alone can continue it. Begin a new run in another run_dir"
                )
            return {**part, "tokens": tuple(part["tokens"]), "end": tuple(part["end"])}

        def feedback(part: dict[str, Any] | None) -> Feedback | None:
            if part is None:
                return None
            members = tuple(Feedback(**fields(member)) for member in part.get("members", ()))
            return Feedback(**{**fields(part), "members": members})

        candidates = tuple(Candidate(**{**fields(c), "feedback": feedback(c["feedback"])}) for c in tree["candidates"])
        return cls(**{**tree, "candidates": candidates})


_NOT_PLAIN = ("logprobs", "members", "assessment", "error")


def _plain(part: Candidate | Feedback) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name not in _NOT_PLAIN}


def feedback_record(feedback: Feedback) -> dict[str, Any]:
    """Plain JSON values, without log-probabilities; `members` only where there are some."""
    members = [_plain(member) for member in feedback.members]
    return _plain(feedback) | ({"members": members} if members else {})


def choose(candidates: Sequence[Candidate]) -> int:
    """The index of the best judged candidate, so that a worse refinement never replaces a better answer.

    The first good one; else the one of the highest rating (the earlier of equals); else the last with a parseable
    verdict; else the response.
    """
    judged = [(i, c.judged) for i, c in enumerate(candidates) if c.judged is not None]
    for i, said in judged:
        if said.good:
            return i
    rated = [(said.rating, -i) for i, said in judged if said.rating is not None]
    if rated:
        return -max(rated)[1]
    return max((i for i, said in judged if said.good is not None), default=0)
