"""Which slot does what next: admission, prefix reuse, batching of extends, and the end of completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from selfevo_jax.sample.decode import Dispatcher, Rows
from selfevo_jax.sample.methods import KEY_WORDS, DrawSettings, key_words
from selfevo_jax.sample.request import Chain, Completion, Finish, Request, failed, request_problem
from selfevo_jax.sample.stops import StopWatch

if TYPE_CHECKING:
    from selfevo_jax.sample.engine import Engine


SHARE_FROM = 32
"""Tokens at least that a copy of another slot's cache must save: a copy takes as long as a few tokens."""


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


@dataclass
class _Slot:
    """The host's knowledge of one slot."""

    cached: tuple[int, ...] = ()
    """The tokens whose keys and values lie in the slot's cache."""
    chain: Chain | None = None
    request: Request | None = None
    seen: list[tuple[int, ...]] = field(default_factory=list)
    """The texts that this chain has put through the cache, for the lower bound."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    watch: StopWatch | None = None


class Scheduler:
    """One run of an engine over an iterator of chains; `step` does one refill and one decode dispatch."""

    def __init__(self, engine: Engine, params: Any, chains: Iterator[Chain], on_done: Callable[[Chain], None]) -> None:
        self.engine, self.chains, self.on_done = engine, chains, on_done
        self.cache = engine.new_cache()
        self.dispatcher = Dispatcher(engine.programs, params, self.cache)
        names = ("chains", "requests", "failed", "prefilled", "shared", "lower_bound", "decoded", "steps", "busy")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)
        n = engine.slots
        self.slots = [_Slot() for _ in range(n)]
        self.exhausted = False
        self.words = np.zeros((n, KEY_WORDS), np.uint32)
        self.temperature, self.min_p = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.top_k, self.top_p = np.zeros(n, np.int32), np.ones(n, np.float32)
        self.token, self.position = np.zeros(n, np.int32), np.zeros(n, np.int32)
        self.count, self.limit = np.zeros(n, np.int32), np.zeros(n, np.int32)
        self.active = np.zeros(n, bool)
        self.stops = np.full((n, engine.n_stops), -1, np.int32)

    def step(self) -> bool:
        """Refills free slots and decodes once; False when all chains have ended."""
        waiting = [i for i, slot in enumerate(self.slots) if slot.chain is None and self._admit(i)]
        while waiting:
            waiting = self._prefill(waiting)
        if not self.active.any():
            return False
        self._decode()
        return True

    # -- requests -----------------------------------------------------------------------------------------------

    def _admit(self, i: int) -> bool:
        """Gives slot i the next chain that has a request to run; False when there is none."""
        while not self.exhausted:
            chain = next(self.chains, None)
            if chain is None:
                self.exhausted = True
                break
            self.slots[i].chain = chain
            self.slots[i].seen = []
            if self._advance(i, None):
                return True
        return False

    def _advance(self, i: int, last: Completion | None) -> bool:
        """Asks slot i's chain for its next request; False when the chain has ended (and its slot is free)."""
        slot = self.slots[i]
        assert slot.chain is not None
        while (request := slot.chain.next(last)) is not None:
            self.counts["requests"] += 1
            problem = request_problem(request, self.engine.config.vocab_size, self.engine.cache_length)
            if problem is None:
                self._begin(i, request)
                return True
            self.counts["failed"] += 1
            last = failed(problem)
        done, slot.chain, slot.request = slot.chain, None, None
        self.counts["chains"] += 1
        self.on_done(done)
        return False

    def _begin(self, i: int, request: Request) -> None:
        slot, params, key = self.slots[i], request.params, request.key
        n = len(request.tokens)
        reused = min(common_prefix(slot.cached, request.tokens), n - 1)  # the last one again: its logits are needed
        known = max((common_prefix(text, request.tokens) for text in slot.seen), default=0)
        self.counts["lower_bound"] += n - known
        slot.request, slot.cached = request, request.tokens[:reused]
        slot.tokens, slot.logprobs = [], []
        slot.watch = StopWatch(self.engine.new_stream(), params.stop_strings) if params.stop_strings else None
        self.words[i] = key_words(self.engine.seed, key.round, key.stage, key.prompt_id, key.sample)
        self.temperature[i], self.min_p[i] = params.temperature, params.min_p
        self.top_k[i], self.top_p[i] = min(params.top_k, 2**31 - 1), params.top_p
        self.position[i], self.count[i] = reused, 0
        self.limit[i] = min(params.max_new_tokens, self.engine.cache_length - n + 1)
        if len(params.stop_ids) > self.stops.shape[1]:
            wider = np.full((len(self.slots), -(-len(params.stop_ids) // 4) * 4), -1, np.int32)
            wider[:, : self.stops.shape[1]] = self.stops
            self.stops = wider
        self.stops[i] = -1
        self.stops[i, : len(params.stop_ids)] = params.stop_ids

    # -- dispatches ---------------------------------------------------------------------------------------------

    def _rows(self, index: np.ndarray, active: np.ndarray) -> Rows:
        settings = DrawSettings(self.temperature[index], self.top_k[index], self.top_p[index], self.min_p[index])
        fields = (self.words, self.token, self.position, self.count, self.limit, self.stops)
        words, token, position, count, limit, stops = (f[index] for f in fields)
        return Rows(words, settings, token, position, count, limit, active, stops)  # type: ignore[arg-type]

    def _layout(self, chosen: list[int], n_rows: int) -> tuple[np.ndarray | None, np.ndarray, dict[int, int]]:
        """(device slot ids or None for the whole batch, host indices [E], slot -> row)."""
        if n_rows == self.engine.slots:
            return None, np.arange(n_rows), {i: i for i in chosen}
        ids = np.full(n_rows, self.engine.slots, np.int32)  # filled up with an id that is out of range
        ids[: len(chosen)] = chosen
        return ids, np.minimum(ids, self.engine.slots - 1), {i: row for row, i in enumerate(chosen)}

    def _share(self, waiting: list[int]) -> tuple[list[int], list[int]]:
        """Copies the cache of a slot that holds more of a waiting slot's text than its own.

        Returns the slots to extend now, and those to come back for: their text begins as that of a slot that is about
        to be extended (samples of one prompt, a common system prompt).
        """
        long = sorted((i for i in waiting if len(self._wanted(i)) > SHARE_FROM), key=lambda i: -self.position[i])
        if not self.engine.shares or not long:
            return waiting, []
        holders: dict[tuple[int, ...], list[int]] = {}
        for j, slot in enumerate(self.slots):
            holders.setdefault(slot.cached[:SHARE_FROM], []).append(j)
        leaders: dict[tuple[int, ...], list[int]] = {}
        overwritten: set[int] = set()  # copies are made in this order, some at a time
        now, later, copies = [i for i in waiting if len(self._wanted(i)) <= SHARE_FROM], [], []
        for i in long:
            text = self._wanted(i)
            have = int(self.position[i]) + SHARE_FROM
            held = [j for j in holders.get(text[:SHARE_FROM], []) if j not in overwritten]
            shared = [(common_prefix(self.slots[j].cached, text), j) for j in held]
            most, source = max(shared, default=(0, i))
            ahead = max((common_prefix(self._wanted(j), text) for j in leaders.get(text[:SHARE_FROM], [])), default=0)
            most, ahead = (min(n, len(text) - 1) for n in (most, ahead))  # the last one again: its logits are needed
            if ahead > most and ahead >= have:
                later.append(i)
                continue
            if most >= have:
                copies.append((source, i, most))
                overwritten.add(i)
            leaders.setdefault(text[:SHARE_FROM], []).append(i)
            now.append(i)
        for at in range(0, len(copies), n := self.engine.extend_rows[0]):
            self._fork(copies[at : at + n], n)
        return now, later

    def _fork(self, copies: list[tuple[int, int, int]], n_rows: int) -> None:
        """Copies caches (source, target, tokens that both texts begin with)."""
        sources, targets = np.zeros(n_rows, np.int32), np.full(n_rows, self.engine.slots, np.int32)
        for row, (source, target, _) in enumerate(copies):
            sources[row], targets[row] = source, target
        self.cache = self.dispatcher.fork(self.cache, sources, targets)
        for _, target, n in copies:
            self.counts["shared"] += n - int(self.position[target])
            self.position[target], self.slots[target].cached = n, self._wanted(target)[:n]

    def _wanted(self, i: int) -> tuple[int, ...]:
        """The text that slot i's request goes on from."""
        request = self.slots[i].request
        assert request is not None
        return request.tokens

    def _prefill(self, waiting: list[int]) -> list[int]:
        """Extends the waiting slots by at most one bucket each; returns those that still wait."""
        engine = self.engine
        groups: dict[int, list[int]] = {}
        waiting, again = self._share(waiting)
        for i in waiting:
            request = self.slots[i].request
            assert request is not None
            rest = len(request.tokens) - int(self.position[i])
            bucket = next((b for b in engine.extend_lengths if b >= rest), engine.extend_lengths[-1])
            groups.setdefault(bucket, []).append(i)
        for length, group in sorted(groups.items()):
            fitting = [r for r in engine.extend_rows if r * length <= engine.extend_tokens]
            most = max(fitting, default=engine.extend_rows[0])
            for at in range(0, len(group), most):
                again += self._extend(group[at : at + most], length)
        return again

    def _extend(self, chosen: list[int], length: int) -> list[int]:
        engine = self.engine
        n_rows = next(r for r in engine.extend_rows if r >= len(chosen))
        ids, index, row_of = self._layout(chosen, n_rows)
        tokens, lengths = np.zeros((n_rows, length), np.int32), np.zeros(n_rows, np.int32)
        for i, row in row_of.items():
            request = self.slots[i].request
            assert request is not None
            piece = request.tokens[self.position[i] : self.position[i] + length]
            tokens[row, : len(piece)], lengths[row] = piece, len(piece)
        rows = self._rows(index, lengths > 0)
        reach = int((self.position[index] + lengths)[lengths > 0].max())
        window = next(w for w in engine.extend_windows if w >= reach)
        self.cache, drawn, logprobs = self.dispatcher.extend(self.cache, ids, rows, tokens, lengths, window=window)
        drawn, logprobs = jax.device_get((drawn, logprobs))
        self.counts["prefilled"] += int(lengths.sum())
        again = []
        for i, row in row_of.items():
            slot = self.slots[i]
            assert slot.request is not None
            self.position[i] += lengths[row]
            slot.cached = slot.request.tokens[: self.position[i]]
            if len(slot.cached) < len(slot.request.tokens) or self._take(i, [int(drawn[row])], [float(logprobs[row])]):
                again.append(i)
        return again

    def _decode(self) -> None:
        engine = self.engine
        chosen = np.flatnonzero(self.active).tolist()
        ids, index, row_of = self._layout(chosen, next(r for r in engine.decode_rows if r >= len(chosen)))
        watched = any(self.slots[i].watch is not None for i in chosen)
        n_steps = engine.text_steps if watched else engine.decode_steps
        n_steps = min(n_steps, engine.decode_steps, int((self.limit - self.count)[chosen].max()))
        reach = min(int(self.position[chosen].max()) + n_steps, engine.cache_length)
        active = np.zeros(len(index), bool)
        active[list(row_of.values())] = True
        floor = len(chosen) - max(1, len(chosen) // 8)
        self.cache, *results = self.dispatcher.decode_many(
            self.cache,
            ids,
            self._rows(index, active),
            n_steps,
            floor,
            window=next(w for w in engine.decode_windows if w >= reach),
            capacity=engine.decode_steps,
        )
        drawn, logprobs, made, steps = jax.device_get(results)
        self.counts["steps"] += int(steps)
        self.counts["busy"] += int(made.sum())
        columns, scores, lengths = drawn.T.tolist(), logprobs.T.tolist(), made.tolist()
        waiting = [
            i for i, row in row_of.items() if self._take(i, columns[row][: lengths[row]], scores[row][: lengths[row]])
        ]
        while waiting:
            waiting = self._prefill(waiting)

    # -- completions --------------------------------------------------------------------------------------------

    def _take(self, i: int, tokens: list[int], logprobs: list[float]) -> bool:
        """New tokens of slot i. True when its completion has ended and the slot now waits for an extend."""
        slot = self.slots[i]
        assert slot.request is not None
        first = not slot.tokens
        written = tokens[:-1] if first else [slot.tokens[-1], *tokens[:-1]]
        slot.cached += tuple(written)
        slot.tokens += tokens
        slot.logprobs += logprobs
        self.counts["decoded"] += len(tokens)
        self.token[i], self.count[i] = tokens[-1], len(slot.tokens)
        self.position[i] = len(slot.cached)
        completion = self._completion(slot, len(tokens), int(self.limit[i]))
        self.active[i] = completion is None
        if completion is None:
            return False
        if completion.finish == "error":
            self.counts["failed"] += 1
        slot.seen.append(slot.cached)
        return self._advance(i, completion) or self._admit(i)

    def _completion(self, slot: _Slot, n_new: int, limit: int) -> Completion | None:
        """The completion of a slot that has just drawn n_new tokens, or None while it goes on."""
        request = slot.request
        assert request is not None
        params, tokens = request.params, slot.tokens
        if not np.isfinite(slot.logprobs[-1]):
            where = f"position {len(request.tokens) + len(tokens) - 1}"
            return failed(f"{request.key}: the model's logits are not finite at {where}; check its weights")
        stopped = tokens[-1] in params.stop_ids
        end = len(tokens) - stopped
        if slot.watch is not None:
            for token in tokens[len(tokens) - n_new : end]:
                if slot.watch.push(token):
                    return self._finished(slot, "stop_string", slot.watch.kept())
        if not stopped and len(tokens) < limit:
            return None
        if slot.watch is not None and slot.watch.finish():
            return self._finished(slot, "stop_string", slot.watch.kept())
        length: Finish = "length" if len(tokens) >= params.max_new_tokens else "cache"
        return self._finished(slot, "stop" if stopped else length, end)

    def _finished(self, slot: _Slot, finish: Finish, n_kept: int) -> Completion:
        tokens = tuple(slot.tokens[:n_kept])
        if slot.watch is not None:
            text = slot.watch.text
        else:
            text = self._text(tokens)
        return Completion(tokens, text, tuple(slot.logprobs[:n_kept]), finish)

    def _text(self, tokens: tuple[int, ...]) -> str:
        stream = self.engine.new_stream()
        text = "".join([stream.push(token) for token in tokens])
        tail, clean = stream.finish()
        return text + tail if clean else text
