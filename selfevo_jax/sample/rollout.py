"""SELF's rollout as data for the engine: respond, judge, refine, judge again, all in one slot.

Source: Lu et al., "SELF: Self-Evolution with Language Feedback", arXiv 2310.00533.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from selfevo_jax.sample.methods import SamplingParams
from selfevo_jax.sample.request import Completion, DrawKey, Request

if TYPE_CHECKING:
    from selfevo_jax.text import VerdictRule

ROLLED_BACK = "stop_string"
"""The finish of a candidate whose run-on was cut off: the text ends where a stop string could have ended it."""


class JudgedText(Protocol):
    """What is read from feedback (see selfevo_jax.text.Verdict); `good` None is feedback that cannot be parsed."""

    @property
    def good(self) -> bool | None: ...

    @property
    def rating(self) -> float | None: ...


class ChainFormat(Protocol):
    """What a chain needs of a prompt format (see selfevo_jax.text.PromptFormat): append-only token lists."""

    def respond(self, prompt: str) -> list[int]: ...

    def judge(self, so_far: Sequence[int]) -> list[int]: ...

    def refine(self, so_far: Sequence[int]) -> list[int]: ...


@dataclass(frozen=True)
class Feedback:
    """The model's own judgement of a candidate. Clipped feedback is kept as text but is never a verdict."""

    text: str
    finish: str
    good: bool | None
    rating: float | None


@dataclass(frozen=True)
class Candidate:
    """A response or a refinement."""

    text: str
    finish: str
    n_tokens: int
    feedback: Feedback | None = None
    logprob: float | None = None
    """Sum over its tokens (natural logarithm). Its last bits depend on the shape of the batch, so records leave it
    out: they are the same bytes whatever the slots and interruptions."""

    @property
    def finished(self) -> bool:
        return self.finish in ("stop", "stop_string")


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
        tree = asdict(self)
        for candidate in tree["candidates"]:
            del candidate["logprob"]
        return tree

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Rollout":
        """The inverse of to_dict, but for log-probabilities."""
        candidates = tuple(
            Candidate(**{**c, "feedback": None if c["feedback"] is None else Feedback(**c["feedback"])})
            for c in tree["candidates"]
        )
        return cls(**{**tree, "candidates": candidates})


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
        go on in the chain are cut with it.
      decode: tokens -> text, needed with `cut`.
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

    def extends(self) -> list[int]:
        """Token counts of the extends to expect, as a histogram: the prompt, the instructions, and as often a judged
        refinement, whose length is anybody's guess up to the most."""
        if not self._judge:
            return [len(self._start)]
        judged = self._fmt.judge(self._start)
        instruction = len(judged) - len(self._start)
        refine = len(self._fmt.refine(judged)) - len(judged)
        most = self._stages.refine.max_new_tokens
        guesses = [instruction + most * quarter // 4 for quarter in (1, 2, 3, 4)]
        return [len(self._start), instruction, refine] * len(guesses) + guesses

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
        tokens, text, finish = self._without_run_on(last)
        logprob = float(sum(last.logprobs[: len(tokens)]))
        self._candidates.append(Candidate(text, finish, len(tokens), logprob=logprob))
        if not self._judge:
            return self._end()
        self._so_far = list(self._fmt.judge([*self._start, *tokens]))
        self._judging = True
        return self._request(f"feedback-{len(self._candidates) - 1}", self._so_far, self._stages.feedback)

    def _after_feedback(self, last: Completion) -> Request | None:
        assert self._read is not None
        verdict = self._read(last.text) if last.finished else None
        good, rating = (None, None) if verdict is None else (verdict.good, verdict.rating)
        self._judging = False
        self._judged(Feedback(last.text, last.finish, good, rating))
        # feedback that cannot be read is no ground to refine on: the response stands, and no filter keeps it
        if good is None or (good and self._stop_when_good) or len(self._candidates) > self._turns:
            return self._end()
        self._so_far = list(self._fmt.refine([*self._so_far, *last.tokens]))
        return self._request(f"refine-{len(self._candidates)}", self._so_far, self._stages.refine)

    def _judged(self, feedback: Feedback) -> None:
        self._candidates[-1] = replace(self._candidates[-1], feedback=feedback)

    def _without_run_on(self, last: Completion) -> tuple[tuple[int, ...], str, str]:
        """Tokens, text and finish of a candidate; the tokens kept are those that lie wholly within the cut text."""
        kept = last.text if self._cut is None else self._cut(last.text)
        if kept == last.text or self._decode is None:
            return last.tokens, last.text, last.finish
        low, high = 0, len(last.tokens)
        while low < high:  # the text grows with the tokens, so bisection finds the longest prefix within the cut
            middle = (low + high + 1) // 2
            if len(self._decode(last.tokens[:middle])) <= len(kept):
                low = middle
            else:
                high = middle - 1
        return last.tokens[:low], kept, ROLLED_BACK

    def _request(self, stage: str, tokens: Sequence[int], params: SamplingParams) -> Request:
        return Request(tuple(tokens), params, DrawKey(self.round, stage, self.prompt_id, self.sample))

    def _end(self, fault: Completion | None = None) -> Request | None:
        error = None if fault is None else fault.error
        if fault is not None and self._judging:
            self._judged(Feedback("", "error", None, None))
        elif fault is not None:
            self._candidates.append(Candidate("", "error", 0))
        self.rollout = Rollout(
            self.prompt_id, self.sample, self.prompt, tuple(self._candidates), choose(self._candidates), error
        )
        return None
