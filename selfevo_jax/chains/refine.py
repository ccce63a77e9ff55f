"""SELF's chain: respond, judge, refine, judge again, all in one slot.

Source: Lu et al., "SELF: Self-Evolution with Language Feedback", arXiv 2310.00533.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from selfevo_jax.chains.base import ChainFormat, Generated, StageParams, Turns, until
from selfevo_jax.chains.judging import Judgement, judging
from selfevo_jax.chains.trace import Candidate, Rollout, choose
from selfevo_jax.judges import ChainJudge
from selfevo_jax.sample import Completion, DrawKey, Request, SamplingParams


class RefineChain(Generated[Rollout]):
    """One prompt through the stages; `result` is set when the chain has ended.

    Args:
      prompt_id, prompt: the unlabeled prompt.
      fmt: its templates, which only ever append.
      stages: sampling settings.
      decode: tokens -> text, to cut what runs on.
      judge: how feedback is read. None is plain sampling: the response alone.
      turns: refinements at most; 0 judges the response alone.
      round, sample: enter the draw keys.
      stop_when_good: end at the first candidate whose own feedback calls it good.
      cut: text -> text that cuts off a run-on (an invented next question); applied to candidates, and the tokens that
        go on in the chain are cut with it. Feedback is cut where its judge says that it ends.
    """

    def __init__(
        self,
        prompt_id: str,
        prompt: str,
        fmt: ChainFormat,
        stages: StageParams,
        decode: Callable[[Sequence[int]], str],
        *,
        judge: ChainJudge | None = None,
        turns: int = 1,
        round: int = 0,
        sample: int = 0,
        stop_when_good: bool = True,
        cut: Callable[[str], str] | None = None,
    ) -> None:
        super().__init__(f"{prompt_id}/{sample}", self._chain())
        self.prompt_id, self.prompt, self.sample, self.round = prompt_id, prompt, sample, round
        self._fmt, self._stages, self._decode, self._judge = fmt, stages, decode, judge
        self._most, self._stop_when_good, self._cut = turns, stop_when_good, cut
        self._start = list(fmt.respond(prompt))

    def _chain(self) -> Turns[Rollout]:
        candidates: list[Candidate] = []
        last = yield self._request("respond", self._start, self._stages.respond)
        while True:
            if last.finish == "error":
                return self._ended([*candidates, Candidate("", "error", ())], last.error)
            candidates.append(self._candidate(last))
            if self._judge is None:
                return self._ended(candidates)
            judged = yield from self._judged(self._judge, candidates)
            if judged.error is not None:
                return self._ended(candidates, judged.error)
            good = judged.feedback.good
            # feedback that cannot be read is no ground to refine on: the response stands, and no filter keeps it
            if good is None or (good and self._stop_when_good) or len(candidates) > self._most:
                return self._ended(candidates)
            last = yield self._request(
                f"refine-{len(candidates)}", self._fmt.refine(judged.so_far), self._stages.refine
            )

    def extends(self, held: int = 0) -> list[int]:
        """Token counts of the extends to expect, as a histogram: the prompt but for what the cache holds of it, the
        instructions, and as often a judged refinement, whose length is anybody's guess up to the most."""
        start = len(self._start) - held
        if self._judge is None:
            return [start]
        judged = self._fmt.judge(self._start)
        asks = self._judge.asks
        first, *others = (len(self._fmt.judge(self._start, text)) - len(self._start) for text in asks)
        # a branch goes on from what it has in common with the one before: of the same text all but its last token
        branches = [1 if text == before else n for text, before, n in zip(asks[1:], asks, others, strict=False)]
        branches += [2, 1] * len(asks) if self._judge.weighs is not None else []
        if self._most == 0:
            return [start, first, *branches]
        refine = len(self._fmt.refine(judged)) - len(judged)
        most = self._stages.refine.max_new_tokens
        guesses = [first + most * quarter // 4 for quarter in (1, 2, 3, 4)]
        return [start, first, *branches, refine] * len(guesses) + [n for guess in guesses for n in (guess, *branches)]

    def _candidate(self, last: Completion) -> Candidate:
        """What was drawn, without what runs on behind it."""
        own = last if self._cut is None else until(last, len(self._cut(last.text)), self._decode)
        return Candidate(own.text, own.finish, own.tokens, end=own.end, logprobs=own.scores)

    def _judged(self, judge: ChainJudge, candidates: list[Candidate]) -> Turns[Judgement]:
        """Asks for feedback on the last candidate, as an answer to the prompt, and puts it there."""
        answered = [*self._start, *candidates[-1].tokens]
        key = self._key(f"feedback-{len(candidates) - 1}")
        judged = yield from judging(judge, answered, self._fmt, self._stages.feedback, self._decode, key)
        candidates[-1] = replace(candidates[-1], feedback=judged.feedback)
        return judged

    def _request(self, stage: str, tokens: Sequence[int], params: SamplingParams) -> Request:
        return Request(tuple(tokens), params, self._key(stage))

    def _key(self, stage: str) -> DrawKey:
        return DrawKey(self.round, stage, self.prompt_id, self.sample)

    def _ended(self, candidates: Sequence[Candidate], error: str | None = None) -> Rollout:
        return Rollout(self.prompt_id, self.sample, self.prompt, tuple(candidates), choose(candidates), error)
