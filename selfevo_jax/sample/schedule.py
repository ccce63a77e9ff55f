"""Which slot does what next: admission, extends within a budget, decoding, and host work while the device computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from selfevo_jax.sample.decode import Dispatcher, Rows
from selfevo_jax.sample.launched import Launched, Programmed
from selfevo_jax.sample.methods import KEY_WORDS, DrawSettings, key_words
from selfevo_jax.sample.placing import Placing
from selfevo_jax.sample.request import Chain, Completion, Request, failed, request_problem
from selfevo_jax.sample.shapes import cover
from selfevo_jax.sample.sharing import Copy, plan_copies
from selfevo_jax.sample.slot import Slot
from selfevo_jax.sample.stats import EngineStats


class Scheduler:
    """One run of an engine over an iterator of chains.

    `step` launches the extends that wait and one dispatch of decode steps behind them, does the host's own work while
    the device computes, and only then reads what was drawn. On several shards (see `Shards`) each row of a dispatch
    belongs to a slot of its own shard: rows are chosen, caches copied and chains moved within each of them.
    """

    def __init__(
        self, engine: Programmed, params: Any, chains: Iterator[Chain], on_done: Callable[[Chain], None]
    ) -> None:
        self.engine, self.chains, self.on_done = engine, chains, on_done
        self.state = engine.new_state()
        self.dispatcher = Dispatcher(engine.programs, params, self.state, engine.allowed)
        n = engine.slots
        self.places = Placing(n, engine.shards)
        self.stats = EngineStats(slots=n)
        self.slots = [Slot(engine.new_stream) for _ in range(n)]
        self.free = list(range(n))
        self.waiting: list[int] = []
        """Slots whose request is not wholly in the cache, those that wait longest first."""
        self.ready: deque[tuple[Chain, Request]] = deque()
        """Chains that have been asked for their first request ahead of a free slot."""
        self.ended: deque[Chain] = deque()
        self.exhausted = False
        self.words = np.zeros((n, KEY_WORDS), np.uint32)
        self.temperature, self.min_p = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.top_k, self.top_p = np.zeros(n, np.int32), np.ones(n, np.float32)
        self.position, self.count, self.limit = np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.int32)
        self.decoding = np.zeros(n, bool)
        self.stops = np.full((n, engine.n_stops), -1, np.int32)
        self.forced = np.full(n, -1, np.int32)
        drafting = any(engine.drafts_of(rows) for rows in engine.decode_rows)
        self.text = np.zeros((n, engine.decode_windows[-1] if drafting else 0), np.int32)
        """The tokens in each slot's cache, where drafts are looked up in them."""

    @property
    def _of_slots(self) -> tuple[np.ndarray, ...]:
        """All that is known of each slot in arrays."""
        settings = (self.words, self.temperature, self.min_p, self.top_k, self.top_p, self.stops, self.forced)
        return *settings, self.text, self.position, self.count, self.limit, self.decoding

    def step(self, meanwhile: Callable[[], None]) -> bool:
        """One round of dispatches; `meanwhile` is called while they run. False when all chains have ended."""
        self._admit()
        self._pack()
        begin, compiling = time.perf_counter(), self.engine.programs.seconds
        extends = self._launch_extends()
        decode = self._launch_decode()
        begin += self.engine.programs.seconds - compiling
        launched = time.perf_counter()
        self.flush()
        meanwhile()
        if not extends and decode is None:
            return False
        while len(self.ready) < max(1, len(self.slots) // 8) and (found := self._pull()):
            self.ready.append(found)
        self.stats.overlapped_seconds += time.perf_counter() - launched
        self._collect(extends, decode, begin)
        return True

    def flush(self) -> None:
        """Hands on the chains that have ended."""
        while self.ended:
            self.on_done(self.ended.popleft())

    # -- requests -----------------------------------------------------------------------------------------------

    def _pull(self) -> tuple[Chain, Request] | None:
        """The next chain that has a request to run."""
        while not self.exhausted:
            chain = next(self.chains, None)
            if chain is None:
                self.exhausted = True
            elif (request := self._ask(chain, None)) is not None:
                return chain, request
        return None

    def _ask(self, chain: Chain, last: Completion | None) -> Request | None:
        """The chain's next request that can be run; None when the chain has ended."""
        while (request := chain.next(last)) is not None:
            self.stats.requests += 1
            problem = request_problem(
                request, self.engine.config.vocab_size, self.engine.cache_length, self.engine.drawable
            )
            if problem is None:
                return request
            self.stats.failed += 1
            last = failed(problem)
        self.stats.chains += 1
        self.ended.append(chain)
        return None

    def _admit(self) -> None:
        """Gives free slots the next chains."""
        while self.free and (found := self.ready.popleft() if self.ready else self._pull()):
            chain, request = found
            texts = [slot.cached if slot.request is None else slot.request.tokens for slot in self.slots]
            i = self.places.best(self.free, request.tokens, texts, [slot.chain is not None for slot in self.slots])
            self.free.remove(i)
            self.slots[i].chain, self.slots[i].seen = chain, []
            self._begin(i, request)

    def _begin(self, i: int, request: Request) -> None:
        slot, params, key = self.slots[i], request.params, request.key
        self.stats.lower_bound += slot.begin(request, self.engine.cache_length)
        self.words[i] = key_words(self.engine.seed, key.round, key.stage, key.prompt_id, key.sample)
        self.temperature[i], self.min_p[i] = params.temperature, params.min_p
        self.top_k[i], self.top_p[i] = min(params.top_k, 2**31 - 1), params.top_p
        self.position[i], self.count[i], self.limit[i] = len(slot.cached), 0, slot.limit
        if len(params.stop_ids) > self.stops.shape[1]:
            wider = np.full((len(self.slots), -(-len(params.stop_ids) // 4) * 4), -1, np.int32)
            wider[:, : self.stops.shape[1]] = self.stops
            self.stops = wider
        self.stops[i] = -1
        self.stops[i, : len(params.stop_ids)] = params.stop_ids
        self.forced[i] = -1 if request.forced is None else request.forced
        self._note(i, 0, request.tokens)
        self.waiting.append(i)

    def _note(self, i: int, at: int, tokens: tuple[int, ...]) -> None:
        """Tokens of slot i's text, from a position on."""
        if self.text.size:
            self.text[i, at : at + len(tokens)] = tokens

    def _pack(self) -> None:
        """While the last chains drain, moves them to the first slots, so that a program of fewer rows decodes them."""
        if not self.exhausted or self.ready:
            return
        live = [i for i, slot in enumerate(self.slots) if slot.chain is not None]
        most = max(map(len, self.places.by_shard(live)))
        moves = self.places.moves(live, next(rows for rows in self.engine.decode_rows if rows >= most))
        self._copy_slots(moves)
        for i, j in moves:
            for known in self._of_slots:
                known[j] = known[i]
            self.decoding[i] = False
            self.slots[i], self.slots[j] = self.slots[j], self.slots[i]
            self.slots[i].cached = self.slots[j].cached  # the copy is still there
            self.free[self.free.index(j)] = i
            self.waiting = [j if w == i else w for w in self.waiting]

    def _text(self, i: int) -> tuple[int, ...]:
        """The text that slot i's request goes on from."""
        request = self.slots[i].request
        assert request is not None
        return request.tokens

    # -- launches -----------------------------------------------------------------------------------------------

    def _rows(self, index: np.ndarray, active: np.ndarray) -> Rows:
        settings = DrawSettings(self.temperature[index], self.top_k[index], self.top_p[index], self.min_p[index])
        fields = (self.words, self.position, self.count, self.limit, self.stops, self.forced)
        words, position, count, limit, stops, forced = (f[index] for f in fields)  # copies: the device reads them later
        return Rows(words, settings, position, count, limit, active, stops, forced)  # type: ignore[arg-type]

    def _launch_extends(self) -> list[Launched]:
        """Extends the waiting slots, `extend_tokens` tokens a shard at most where three in four slots decode: long
        prompts go in pieces between the dispatches of decode steps, and do not stall the others."""
        engine, launched = self.engine, list[Launched]()
        spent = np.zeros(engine.shards, int)

        def affordable() -> bool:
            return spent.max() < engine.extend_tokens or 4 * int(np.count_nonzero(self.decoding)) < 3 * engine.slots

        while self.waiting and affordable():
            queues: dict[int, list[list[int]]] = {}
            for length, group in self._by_length(self._share()).items():
                queues[length] = self.places.by_shard(group)
            for length, queue in queues.items():
                for n_rows in cover(max(map(len, queue)), engine.rows_of(length)):
                    if not affordable():
                        break
                    chosen = self._chosen(queues, length, n_rows)
                    launched.append(self._extend(chosen, n_rows, length))
                    spent += launched[-1].places
            self.waiting += [i for queue in queues.values() for shard in queue for i in shard]
        # a shard does not wait for the others before all of its own are through
        self.stats.idle += int((spent.max() - spent).sum())
        told = [engine.readable(one.drawn, one.logprobs) for one in launched]
        return [replace(one, drawn=drawn, logprobs=scores) for one, (drawn, scores) in zip(launched, told, strict=True)]

    def _by_length(self, slots: list[int]) -> dict[int, list[int]]:
        """Slots by the length of the extend that holds the next piece of their text, the longest first."""
        found: dict[int, list[int]] = {length: [] for length in reversed(self.engine.extend_lengths)}
        for i in slots:
            rest = len(self._text(i)) - int(self.position[i])
            found[next((n for n in self.engine.extend_lengths if n >= rest), self.engine.extend_lengths[-1])].append(i)
        return found

    def _chosen(self, queues: dict[int, list[list[int]]], length: int, n_rows: int) -> list[list[int]]:
        """Takes the rows of an extend from the queues of each shard; places that it computes in any case are filled
        with rows of shorter texts."""
        chosen = [shard[:n_rows] for shard in queues[length]]
        computed = self.places.computed(chosen, n_rows, self.engine.at_once(n_rows, length))
        for at, (rows, places) in enumerate(zip(chosen, computed, strict=True)):
            del queues[length][at][: len(rows)]
            for shorter in [n for n in queues if n < length]:
                room = places - len(rows)
                rows.extend(queues[shorter][at][:room])
                del queues[shorter][at][:room]
        return chosen

    def _share(self) -> list[int]:
        """Takes from the waiting slots those to extend now, after copying from other slots what they hold of a text."""
        now: list[int] = []
        later: list[int] = []
        copies: list[Copy] = []
        for at, shard in enumerate(self.places.by_shard(self.waiting)):
            held = {i: self.slots[i].cached for i in self.places.of_shard(at)}
            found = plan_copies({i: self._text(i) for i in shard}, held)
            now, later, copies = now + found[0], later + found[1], copies + found[2]
        self.waiting = later
        self._copy_slots([(copy.source, copy.target) for copy in copies])
        for copy in copies:
            self.stats.shared += copy.length - int(self.position[copy.target])
            self.position[copy.target] = copy.length
            self.slots[copy.target].cached = self._text(copy.target)[: copy.length]
        return now

    def _copy_slots(self, pairs: list[tuple[int, int]]) -> None:
        """Copies slots to others of their shards on the device, (source, target) in their order."""
        for sources, targets in self.places.copies(pairs, self.engine.extend_rows[0]):
            self.state = self.dispatcher.fork(self.state, sources, targets)

    def _extend(self, chosen: list[list[int]], n_rows: int, length: int) -> Launched:
        """Launches one piece of the text of each slot that was chosen, by shards, n_rows of each."""
        ids: np.ndarray | None
        ids, row_of = self.places.rows_of(chosen, n_rows)
        index = np.minimum(ids, len(self.slots) - 1)
        if self.engine.is_whole(n_rows, length):
            ids, index, row_of = None, np.arange(len(self.slots)), {i: i for i in row_of}
        total, at_once = len(index), self.engine.at_once(n_rows, length)
        tokens, lengths, last = np.zeros((total, length), np.int32), np.zeros(total, np.int32), np.zeros(total, bool)
        for i, row in row_of.items():
            text, at = self._text(i), int(self.position[i])
            piece = text[at : at + length]
            tokens[row, : len(piece)], lengths[row], last[row] = piece, len(piece), at + len(piece) == len(text)
        rows = self._rows(index, last)
        reach = int((self.position[index] + lengths)[lengths > 0].max())
        window = next(w for w in self.engine.extend_windows if w >= reach)
        self.state, drawn, logprobs = self.dispatcher.extend(
            self.state, ids, rows, tokens, lengths, window=window, at_once=at_once
        )
        places = length * np.asarray(self.places.computed(chosen, n_rows, at_once))
        self.stats.prefilled += int(lengths.sum())
        self.stats.padding += int(places.sum() - lengths.sum())
        for i, row in row_of.items():
            self.position[i] += lengths[row]
            self.slots[i].cached = self._text(i)[: self.position[i]]
            if last[row]:
                self.decoding[i], self.count[i] = True, 1
            else:
                self.waiting.append(i)
        return Launched({i: row for i, row in row_of.items() if last[row]}, drawn, logprobs, places=places)

    def _launch_decode(self) -> Launched | None:
        engine = self.engine
        chosen = np.flatnonzero(self.decoding).tolist()
        room = int((self.limit - self.count)[chosen].max()) if chosen else 0
        if room == 0:
            return None
        each = self.places.each
        n_rows = next(rows for rows in engine.decode_rows if rows > max(i % each for i in chosen))
        index = self.places.first(n_rows)
        # the host alone sees stop strings; and slots that wait should not wait long
        soon = self.waiting or any(self.slots[i].watch is not None for i in chosen)
        n_steps = min(engine.text_steps if soon else engine.decode_steps, engine.decode_steps, room)

        def window_of(n_steps: int) -> int:
            reach = min(int(self.position[chosen].max()) + n_steps, engine.cache_length)
            return next(w for w in engine.decode_windows if w >= reach)

        window, stages = window_of(n_steps), [self.slots[i].stage for i in chosen]
        drafts = engine.drafts_of(n_rows)
        if drafts and not engine.pace.pays((n_rows, window), stages):
            drafts = 0
        shape = (n_rows, window)  # what is measured of a dispatch is known by the window of one without drafts
        if drafts:
            n_steps = max(1, round(n_steps / (engine.pace.rate(stages) or 1.0)))
            window = window_of(n_steps * (1 + drafts))
        self.state, drawn, logprobs, made, steps, drafted = self.dispatcher.decode_many(
            self.state,
            self._rows(index, self.decoding[index]),
            n_steps,
            len(chosen) - max(1, len(chosen) // 8),
            self.text[index, :window] if drafts else None,
            window=window,
            capacity=engine.decode_steps,
            drafts=drafts,
        )
        row_of = {i: i // each * n_rows + i % each for i in chosen}
        return Launched(row_of, drawn, logprobs, (made, steps, drafted), shape)

    # -- results ------------------------------------------------------------------------------------------------

    def _collect(self, extends: list[Launched], decode: Launched | None, begin: float) -> None:
        """Reads what was drawn; a completion that has ended brings its chain's next request."""
        tokens: dict[int, list[int]] = {}
        logprobs: dict[int, list[float]] = {}
        firsts = jax.device_get([(extend.drawn, extend.logprobs) for extend in extends])
        for extend, (drawn, scores) in zip(extends, firsts, strict=True):
            for i, row in extend.row_of.items():
                tokens[i], logprobs[i] = [int(drawn[row])], [float(scores[row])]
        between = time.perf_counter() if extends else begin
        self.stats.extend_seconds += between - begin
        if decode is not None:
            drawn, scores, (made, steps, drafted) = jax.device_get((decode.drawn, decode.logprobs, decode.counts))
            self._count(decode, drawn.shape[1] > 1, made, int(steps), int(drafted), time.perf_counter() - between)
            told = np.arange(drawn.shape[1])[:, None] < made[:, None]  # [steps, 1 + drafts, E]
            for i, row in decode.row_of.items():
                here = told[:, :, row]
                tokens.setdefault(i, []).extend(drawn[:, :, row][here].tolist())
                logprobs.setdefault(i, []).extend(scores[:, :, row][here].tolist())
        for i in sorted(tokens):
            if tokens[i]:
                self._take(i, tokens[i], logprobs[i])

    def _count(
        self, decode: Launched, drafting: bool, made: np.ndarray, steps: int, drafted: int, seconds: float
    ) -> None:
        rows, pace = list(decode.row_of.values()), self.engine.pace
        at_work = np.count_nonzero(made[:, rows], axis=0)
        n = made[:, rows].sum(axis=0, dtype=np.int64)
        self.stats.add_steps(steps, int(at_work.sum()), seconds, draining=self.exhausted and not self.ready)
        if steps:
            pace.timed(decode.shape, drafting, seconds / steps)
        if drafting:
            self.stats.add_drafts(steps, int(at_work.sum()), seconds, drafted, int((n - at_work).sum()))
            for i, tokens, turns in zip(decode.row_of, n.tolist(), at_work.tolist(), strict=True):
                pace.drew(self.slots[i].stage, tokens, turns)
        else:
            first = self.position[list(decode.row_of)] + 1  # positions that a row's first token reads
            self.stats.context += int((first * n + n * (n - 1) // 2).sum())

    def _take(self, i: int, tokens: list[int], logprobs: list[float]) -> None:
        """New tokens of slot i."""
        slot = self.slots[i]
        held = len(slot.cached)
        completion = slot.take(tokens, logprobs)
        self._note(i, held, slot.cached[held:])
        self.stats.decoded += len(tokens)
        self.count[i], self.position[i] = len(slot.tokens), len(slot.cached)
        if completion is None:
            return
        self.decoding[i] = False
        self.stats.failed += completion.finish == "error"
        assert slot.chain is not None
        request = self._ask(slot.chain, completion)
        if request is not None:
            self._begin(i, request)
        else:
            slot.chain, slot.request = None, None
            self.free.append(i)
