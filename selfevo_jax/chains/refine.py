"""SELF's chain: respond, judge, refine, judge again, all in one slot.

Source: Lu et al., "SELF: Self-Evolution with Language Feedback", arXiv 2310.00533.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from selfevo_jax.chains.base import ChainFormat, Generated, StageParams, Turns, until
from selfevo_jax.chains.trace import Candidate, Feedback, Rollout, choose
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
            own = last if self._cut is None else until(last, len(self._cut(last.text)), self._decode)
            candidates.append(Candidate(own.text, own.finish, own.tokens, end=own.end, logprobs=_scores(own)))
            if self._judge is None:
                return self._ended(candidates)
            so_far = self._fmt.judge([*self._start, *own.tokens])
            last = yield self._request(f"feedback-{len(candidates) - 1}", so_far, self._stages.feedback)
            if last.finish == "error":
                candidates[-1] = replace(candidates[-1], feedback=Feedback("", "error", None, None))
                return self._ended(candidates, last.error)
            said = self._judge.read(last.text)
            own = last if said.end is None else until(last, said.end, self._decode)
            good, rating = (said.good, said.rating) if own.finished else (None, None)
            feedback = Feedback(own.text, own.finish, good, rating, own.tokens, own.end, _scores(own))
            candidates[-1] = replace(candidates[-1], feedback=feedback)
            # feedback that cannot be read is no ground to refine on: the response stands, and no filter keeps it
            if good is None or (good and self._stop_when_good) or len(candidates) > self._most:
                return self._ended(candidates)
            so_far = self._fmt.refine([*so_far, *own.tokens])
            last = yield self._request(f"refine-{len(candidates)}", so_far, self._stages.refine)

    def extends(self, held: int = 0) -> list[int]:
        """Token counts of the extends to expect, as a histogram: the prompt but for what the cache holds of it, the
        instructions, and as often a judged refinement, whose length is anybody's guess up to the most."""
        start = len(self._start) - held
        if self._judge is None:
            return [start]
        judged = self._fmt.judge(self._start)
        instruction = len(judged) - len(self._start)
        if self._most == 0:
            return [start, instruction]
        refine = len(self._fmt.refine(judged)) - len(judged)
        most = self._stages.refine.max_new_tokens
        guesses = [instruction + most * quarter // 4 for quarter in (1, 2, 3, 4)]
        return [start, instruction, refine] * len(guesses) + guesses

    def _request(self, stage: str, tokens: Sequence[int], params: SamplingParams) -> Request:
        return Request(tuple(tokens), params, DrawKey(self.round, stage, self.prompt_id, self.sample))

    def _ended(self, candidates: Sequence[Candidate], error: str | None = None) -> Rollout:
        return Rollout(self.prompt_id, self.sample, self.prompt, tuple(candidates), choose(candidates), error)


def _scores(own: Completion) -> tuple[float, ...]:
    return (*own.logprobs, *own.end_logprobs)
