"""The seams between chains and what is believed of their answers: within a chain, and of finished chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from selfevo_jax.judges.mt_bench import JudgePrompt
from selfevo_jax.judges.server import EndpointSection


class Judged(Protocol):
    """What is read from feedback."""

    @property
    def good(self) -> bool | None:
        """None: it cannot be read, which is never a score."""
        ...

    @property
    def rating(self) -> float | None:
        """A score, where there is one: the higher the better."""
        ...

    @property
    def end(self) -> int | None:
        """Where the feedback ends and something else runs on; None where nothing does."""
        ...


class Weighed(Protocol):
    """Two words, one of which stands at some place of the feedback: the model is asked how probable it finds each."""

    @property
    def good(self) -> str: ...
    @property
    def bad(self) -> str: ...
    @property
    def lead(self) -> str:
        """What stands before the word, in feedback as it should be."""
        ...

    def place(self, feedback: str) -> int | None:
        """The character behind which the word stands, or would; None where feedback has no such place."""
        ...

    def weighed(self, good: float, bad: float) -> Judged:
        """What the log-probabilities of the two words say."""
        ...


class ChainJudge(Protocol):
    """A judge whose feedback is a turn of the chain, in the model's own words. One that asks for one text and reads it
    needs `name`, `read` and `bare`; what else is here is inherited."""

    @property
    def name(self) -> str: ...

    @property
    def instruction(self) -> str | None:
        """What asks for the feedback where the config has no text of its own and the format is a chat; None: what the
        format asks by default."""
        return None

    @property
    def asks(self) -> Sequence[str | None]:
        """What asks for each text of feedback on one answer; None: what the format asks."""
        return (None,)

    @property
    def weighs(self) -> Weighed | None:
        """Where the judgement is how probable the model finds two words, and not which of them it wrote."""
        return None

    @property
    def marks(self) -> Sequence[str]:
        """What its verdict begins with ("Verdict:"): a mark of feedback, which no answer should have (see `Leaks`)."""
        return ()

    def read(self, feedback: str) -> Judged:
        """What one text of feedback says of the answer before it."""
        ...

    def scored(self, said: Judged, logprobs: Sequence[float]) -> Judged:
        """What was read, with what the log-probabilities of the text's own tokens (its end too) say of it."""
        return said

    def joined(self, read: Sequence[Judged]) -> Judged:
        """What the texts of feedback on one answer say together."""
        (one,) = read
        return one

    def bare(self, feedback: str, good: bool) -> str:
        """Written feedback without its words: the verdict, or the rating, alone."""
        ...


def passes(score: float, least: float | None) -> bool:
    """Whether a score from 0 to 1 is good: `least` or more; with None more than half."""
    return score > 0.5 if least is None else score >= least


class Reply(Protocol):
    """What was said to a question: by a model that is sampled, or by a server."""

    @property
    def text(self) -> str: ...
    @property
    def whole(self) -> bool:
        """Whether the text came to its own end."""
        ...

    @property
    def error(self) -> str | None:
        """Why there is none."""
        ...


@dataclass(frozen=True)
class Case:
    """A finished chain, as a batch judge is shown it."""

    key: str
    """Its own in a round."""
    prompt: str
    texts: tuple[str | None, ...]
    """The response, then its refinements. None: one that is empty or was cut at a limit, which is not judged."""
    grades: tuple[float | None, ...] = ()
    """For a judge that reads labels: of each text by the task's scorer, from 0 to 1; None where it is not scored."""


@dataclass(frozen=True)
class Assessment:
    """What a batch judge says of one text."""

    good: bool | None
    """Whether it passes. None: that is not known, which is never a no."""
    rating: float | None = None
    """By which the better of several texts is chosen."""
    text: str = ""
    """The judge's own words."""
    unread: str | None = None
    """Why a judge that was asked is not understood; None also where it was not asked about the text."""

    def in_words(self) -> str:
        """`good, 8; The answer is right.`"""
        verdict = self.unread or "not judged" if self.good is None else "good" if self.good else "not good"
        rated = "" if self.rating is None else f", {self.rating:g}"
        return f"{verdict}{rated}" + (f"; {self.text.strip()}" if self.text else "")


class BatchJudge(Protocol):
    """A judge of finished chains, in a phase of its own. Pure: it says what to ask, and reads what was said."""

    @property
    def name(self) -> str: ...
    @property
    def reads_labels(self) -> bool:
        """Whether it reads gold answers; a run says so at its start and in its report."""
        ...

    @property
    def compares(self) -> bool:
        """Whether it compares the response with a refinement: chains then refine what their own feedback calls good."""
        ...

    @property
    def server(self) -> EndpointSection | None:
        """Who is asked; None: the model that made the chains."""
        ...

    @property
    def prompt(self) -> JudgePrompt | None:
        """How it asks; None: it asks nothing."""
        ...

    @property
    def brief(self) -> bool:
        """Whether a model is made to begin with the prompt's opening, and to end with its verdict."""
        ...

    def shown(self, case: Case) -> Mapping[str, str]:
        """Questions about a chain, each by a key of its own in the chain."""
        ...

    def assessed(self, case: Case, replies: Mapping[str, Reply]) -> Sequence[Assessment]:
        """Of each text of a chain; `replies` are those to its questions."""
        ...
