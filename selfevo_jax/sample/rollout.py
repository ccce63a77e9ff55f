"""SELF's rollout as data for the engine: respond, judge, refine, judge again, all in one slot.

Source: Lu et al., "SELF: Self-Evolution with Language Feedback", arXiv 2310.00533.
"""

import functools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from selfevo_jax.errors import SelfevoError
from selfevo_jax.sample.methods import SamplingParams
from selfevo_jax.sample.request import Completion, DrawKey, Finish, Request, is_whole

if TYPE_CHECKING:
    from selfevo_jax.text import VerdictRule

CUT: Finish = "cut"
"""The finish of a text behind whose own end something ran on, which was cut off; the model did not end it there."""
DIGITS = 6
"""Decimals of log-probabilities in records."""


class JudgedText(Protocol):
    """What is read from feedback (see selfevo_jax.text.Verdict); `good` None is feedback that cannot be parsed."""

    @property
    def good(self) -> bool | None: ...

    @property
    def rating(self) -> float | None: ...

    @property
    def end(self) -> int | None:
        """Where the feedback ends and something else runs on; None where nothing does."""
        ...


class ChainFormat(Protocol):
    """What a chain needs of a prompt format (see selfevo_jax.text.PromptFormat): append-only token lists."""

    def respond(self, prompt: str) -> list[int]: ...

    def judge(self, so_far: Sequence[int]) -> list[int]: ...

    def refine(self, so_far: Sequence[int]) -> list[int]: ...


@dataclass(frozen=True)
class Feedback:
    """The model's own judgement of a candidate. Clipped feedback is kept as text but is never a verdict.

    `tokens`, `end` and `logprobs` are as those of a candidate.
    """

    text: str
    finish: str
    good: bool | None
    rating: float | None
    tokens: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


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

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

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
            _plain(c) | {"feedback": None if c.feedback is None else _plain(c.feedback)} for c in self.candidates
        ]
        return {**vars(self), "candidates": candidates}

    def scores(self) -> dict[str, Any]:
        """The log-probabilities of every turn as plain JSON values, to DIGITS decimals."""

        def rounded(part: Candidate | Feedback | None) -> list[float] | None:
            return None if part is None else [round(x, DIGITS) for x in part.logprobs]

        turns = [{"candidate": rounded(c), "feedback": rounded(c.feedback)} for c in self.candidates]
        return {"id": self.id, "sample": self.sample, "turns": turns}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Rollout":
        """The inverse of to_dict, but for log-probabilities. Raises SelfevoError for a row without token ids."""

        def fields(part: dict[str, Any]) -> dict[str, Any]:
            if "tokens" not in part:
                raise SelfevoError(
                    f"rollout '{tree['id']}', sample {tree['sample']}: no token ids in it: the run was begun by "
                    "an older version of selfevo, which alone can continue it. Begin a new run in another run_dir"
                )
            return {**part, "tokens": tuple(part["tokens"]), "end": tuple(part["end"])}

        candidates = tuple(
            Candidate(**{**fields(c), "feedback": None if c["feedback"] is None else Feedback(**fields(c["feedback"]))})
            for c in tree["candidates"]
        )
        return cls(**{**tree, "candidates": candidates})


def _plain(part: Candidate | Feedback) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name != "logprobs"}


@dataclass(frozen=True)
class StageParams:
    """Sampling settings of each stage; raises ConfigError on settings that cannot be used."""

    respond: SamplingParams
    feedback: SamplingParams
    refine: SamplingParams

    def __post_init__(self) -> None:
        for params in (self.respond, self.feedback, self.refine):
            params.validated()


def _reader(rule: "VerdictRule | Callable[[str], JudgedText] | None") -> Callable[[str], JudgedText] | None:
    if rule is None or callable(rule):
        return rule
    from selfevo_jax.text import parse_verdict

    return functools.partial(parse_verdict, rule=rule)


def choose(candidates: Sequence[Candidate]) -> int:
    """The index of the best judged candidate, so that a worse refinement never replaces a better answer.

    The first good one; else the one of the highest rating (the earlier of equals); else the last with a parseable
    verdict; else the response.
    """
    judged = [(i, c.feedback) for i, c in enumerate(candidates) if c.feedback is not None]
    for i, feedback in judged:
        if feedback.good:
            return i
    rated = [(feedback.rating, -i) for i, feedback in judged if feedback.rating is not None]
    if rated:
        return -max(rated)[1]
    return max((i for i, feedback in judged if feedback.good is not None), default=0)


class SelfChain:
    """One prompt through the stages; `rollout` is set when the chain has ended.

    Args:
      prompt_id, prompt: the unlabeled prompt.
      fmt: its templates, which only ever append.
      stages: sampling settings.
      verdict_rule: how feedback is read: a VerdictRule, or a function from its text to a verdict.
      turns: refinements at most; 0 judges the response alone.
      round, sample: enter the draw keys.
      judge: False is plain sampling: the response alone.
      stop_when_good: end at the first candidate whose own feedback calls it good.
      cut: text -> text that cuts off a run-on (an invented next question); applied to candidates, and the tokens that
        go on in the chain are cut with it. Feedback is cut where its verdict says that it ends.
      decode: tokens -> text, needed where something is cut.
    """

    def __init__(
        self,
        prompt_id: str,
        prompt: str,
        fmt: ChainFormat,
        stages: StageParams,
        verdict_rule: "VerdictRule | Callable[[str], JudgedText] | None" = None,
        *,
        turns: int = 1,
        round: int = 0,
        sample: int = 0,
        judge: bool = True,
        stop_when_good: bool = True,
        cut: Callable[[str], str] | None = None,
        decode: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        if judge and verdict_rule is None:
            raise ValueError("a chain that judges needs a verdict_rule")
        if cut is not None and decode is None:
            raise ValueError("a chain that cuts run-ons needs decode")
        self.prompt_id, self.prompt, self.sample, self.round = prompt_id, prompt, sample, round
        self.rollout: Rollout | None = None
        self._fmt, self._stages, self._read = fmt, stages, _reader(verdict_rule)
        self._turns, self._judge, self._stop_when_good = turns, judge, stop_when_good
        self._cut, self._decode = cut, decode
        self._candidates: list[Candidate] = []
        self._start = list(fmt.respond(prompt))
        self._so_far: list[int] = []
        self._judging = False

    @property
    def id(self) -> str:
        return f"{self.prompt_id}/{self.sample}"

    def extends(self, held: int = 0) -> list[int]:
        """Token counts of the extends to expect, as a histogram: the prompt but for what the cache holds of it, the
        instructions, and as often a judged refinement, whose length is anybody's guess up to the most."""
        start = len(self._start) - held
        if not self._judge:
            return [start]
        judged = self._fmt.judge(self._start)
        instruction = len(judged) - len(self._start)
        if self._turns == 0:
            return [start, instruction]
        refine = len(self._fmt.refine(judged)) - len(judged)
        most = self._stages.refine.max_new_tokens
        guesses = [instruction + most * quarter // 4 for quarter in (1, 2, 3, 4)]
        return [start, instruction, refine] * len(guesses) + guesses

    def next(self, last: Completion | None) -> Request | None:
        """The next stage's request; None at the end, when `rollout` has been set."""
        if last is None:
            return self._request("respond", self._start, self._stages.respond)
        if last.finish == "error":
            return self._end(last)
        if self._judging:
            return self._after_feedback(last)
        return self._after_candidate(last)

    def _after_candidate(self, last: Completion) -> Request | None:
        own = last if self._cut is None else self._until(last, len(self._cut(last.text)))
        scores = (*own.logprobs, *own.end_logprobs)
        self._candidates.append(Candidate(own.text, own.finish, own.tokens, end=own.end, logprobs=scores))
        if not self._judge:
            return self._end()
        self._so_far = list(self._fmt.judge([*self._start, *own.tokens]))
        self._judging = True
        return self._request(f"feedback-{len(self._candidates) - 1}", self._so_far, self._stages.feedback)

    def _after_feedback(self, last: Completion) -> Request | None:
        assert self._read is not None
        verdict = self._read(last.text)
        own = last if verdict.end is None else self._until(last, verdict.end)
        good, rating = (verdict.good, verdict.rating) if own.finished else (None, None)
        self._judging = False
        scores = (*own.logprobs, *own.end_logprobs)
        self._judged(Feedback(own.text, own.finish, good, rating, own.tokens, own.end, scores))
        # feedback that cannot be read is no ground to refine on: the response stands, and no filter keeps it
        if good is None or (good and self._stop_when_good) or len(self._candidates) > self._turns:
            return self._end()
        self._so_far = list(self._fmt.refine([*self._so_far, *own.tokens]))
        return self._request(f"refine-{len(self._candidates)}", self._so_far, self._stages.refine)

    def _judged(self, feedback: Feedback) -> None:
        self._candidates[-1] = replace(self._candidates[-1], feedback=feedback)

    def _until(self, last: Completion, end: int) -> Completion:
        """What stands before character `end` of a completion, in text, tokens and log-probabilities; the completion
        itself where only white space stands behind.

        A token across the end is kept where it holds but white space behind it: the end of the text would go with it.
        """
        if not last.text[end:].strip():
            return last
        if self._decode is None:
            raise ValueError("a chain that cuts run-ons needs decode")
        decode, tokens, kept = self._decode, last.tokens, last.text[:end]

        def size(n: int) -> int:
            return len(decode(tokens[:n]))

        counts = range(len(tokens) + 1)
        n = bisect_left(counts, len(kept), key=size)  # the text grows with the tokens
        if n and decode(tokens[:n])[len(kept) :].strip():
            # the least of those with the same text: the others end in the first bytes of a character
            n = bisect_left(counts[:n], size(n - 1), key=size)
        return Completion(tokens[:n], kept, last.logprobs[:n], CUT)

    def _request(self, stage: str, tokens: Sequence[int], params: SamplingParams) -> Request:
        return Request(tuple(tokens), params, DrawKey(self.round, stage, self.prompt_id, self.sample))

    def _end(self, fault: Completion | None = None) -> Request | None:
        error, self._so_far = None if fault is None else fault.error, []
        if fault is not None and self._judging:
            self._judged(Feedback("", "error", None, None))
        elif fault is not None:
            self._candidates.append(Candidate("", "error", ()))
        self.rollout = Rollout(
            self.prompt_id, self.sample, self.prompt, tuple(self._candidates), choose(self._candidates), error
        )
        return None
