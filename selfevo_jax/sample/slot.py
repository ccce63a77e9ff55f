"""The host's knowledge of one slot: the text in its cache, and the completion that grows there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from selfevo_jax.sample.request import Chain, Completion, Finish, Request, failed
from selfevo_jax.sample.sharing import common_prefix
from selfevo_jax.sample.stops import StopWatch, Stream


@dataclass
class Slot:
    """A place for one chain at a time."""

    new_stream: Callable[[], Stream]
    cached: tuple[int, ...] = ()
    """The tokens whose keys and values lie in the slot's cache, as of the last launch."""
    chain: Chain | None = None
    request: Request | None = None
    limit: int = 0
    """Tokens that the completion may have: its max_new_tokens, or what the cache has room for."""
    seen: list[tuple[int, ...]] = field(default_factory=list)
    """The texts that this chain has put through the cache, for the lower bound."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    watch: StopWatch | None = None

    @property
    def stage(self) -> str:
        """Of its request; empty without one."""
        return "" if self.request is None else self.request.key.stage

    def begin(self, request: Request, cache_length: int) -> int:
        """Takes a request on; what the cache holds of its text stays. Returns its tokens in no text of the chain."""
        n = len(request.tokens)
        reused = min(common_prefix(self.cached, request.tokens), n - 1)  # the last one again: its logits are needed
        known = max((common_prefix(text, request.tokens) for text in self.seen), default=0)
        self.request, self.cached = request, request.tokens[:reused]
        self.limit = min(request.params.max_new_tokens, cache_length - n + 1)
        self.tokens, self.logprobs = [], []
        strings = request.params.stop_strings
        self.watch = StopWatch(self.new_stream(), strings) if strings else None
        return n - known

    def take(self, tokens: Sequence[int], logprobs: Sequence[float]) -> Completion | None:
        """New tokens; the completion once it has ended. All but the last token are in the cache now."""
        self.cached += tuple(tokens[:-1]) if not self.tokens else (self.tokens[-1], *tokens[:-1])
        self.tokens += tokens
        self.logprobs += logprobs
        completion = self._completion(len(tokens))
        if completion is not None:
            self.seen.append(self.cached)
        return completion

    def _completion(self, n_new: int) -> Completion | None:
        request = self.request
        assert request is not None
        params, tokens = request.params, self.tokens
        if not np.isfinite(self.logprobs[-1]):
            where = f"position {len(request.tokens) + len(tokens) - 1}"
            return failed(f"{request.key}: the model's logits are not finite at {where}; check its weights")
        stopped = tokens[-1] in params.stop_ids
        end = len(tokens) - stopped
        if self.watch is not None:
            for token in tokens[len(tokens) - n_new : end]:
                if self.watch.push(token):
                    return self._finished("stop_string", self.watch.kept(), self.watch.pushed)
        if not stopped and len(tokens) < self.limit:
            return None
        if self.watch is not None and self.watch.finish():
            return self._finished("stop_string", self.watch.kept(), self.watch.pushed)
        length: Finish = "length" if len(tokens) >= params.max_new_tokens else "cache"
        return self._finished("stop" if stopped else length, end, len(tokens))

    def _finished(self, finish: Finish, n_kept: int, n_said: int) -> Completion:
        """Of the first n_said tokens drawn, those after the first n_kept ended the text."""
        tokens, end = tuple(self.tokens[:n_kept]), tuple(self.tokens[n_kept:n_said])
        text = self.watch.text if self.watch is not None else self._text(tokens)
        scores, end_scores = tuple(self.logprobs[:n_kept]), tuple(self.logprobs[n_kept:n_said])
        return Completion(tokens, text, scores, finish, end=end, end_logprobs=end_scores)

    def _text(self, tokens: tuple[int, ...]) -> str:
        stream = self.new_stream()
        text = "".join([stream.push(token) for token in tokens])
        tail, clean = stream.finish()
        return text + tail if clean else text
