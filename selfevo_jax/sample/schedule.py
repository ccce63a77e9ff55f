"""Which slot does what next: admission, extends within a budget, decoding, and host work while the device computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from selfevo_jax.sample.decode import Dispatcher, Rows
from selfevo_jax.sample.launched import DeviceClock, Launched, Programmed, Told, read_extends
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
    the device computes, and only then reads what was drawn. With `overlap_steps` it launches so many steps more behind
    them, which are read after the next launch: the device does not wait while the host finds out which texts have ended
    and what comes next. These steps go on with the slots as they are; a text that has ended in them, or just before,
    gets its next request after them. They are left out where the host alone sees the end of a text (stop strings). On
    several shards (see `Shards`) each row of a dispatch belongs to a slot of its own shard: rows are chosen, caches
    copied and chains moved within each of them.
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
        self.behind: Launched | None = None
        """Steps that have been launched behind those that were read last."""
        self.clock, self.step_seconds = DeviceClock(), 0.0

    @property
    def _of_slots(self) -> tuple[np.ndarray, ...]:
        """All that is known of each slot in arrays."""
        settings = (self.words, self.temperature, self.min_p, self.top_k, self.top_p, self.stops, self.forced)
        return *settings, self.position, self.count, self.limit, self.decoding

    def step(self, meanwhile: Callable[[], None]) -> bool:
        """One round of dispatches; `meanwhile` is called while they run. False when all chains have ended."""
        self._admit()
        self._pack()
        begin, compiling = time.perf_counter(), self.engine.programs.seconds
        before, waited = self.behind, self.behind is None or self.behind.is_done
        extends = self._launch_extends()
        decode = self._launch_decode()
        self.behind = None if decode is None else self._launch_behind(decode)
        compiling = self.engine.programs.seconds - compiling
        launched = time.perf_counter()
        self.flush()
        meanwhile()
        if extends or decode is not None:
            self.stats.launches, self.stats.waits = self.stats.launches + 1, self.stats.waits + waited
        elif before is None:
            return False
        while len(self.ready) < max(1, len(self.slots) // 8) and (found := self._pull()):
            self.ready.append(found)
        self.stats.overlapped_seconds += time.perf_counter() - launched
        over = begin - self.clock.since if waited else None
        self.clock.since = (begin if waited else self.clock.since) + compiling
        if before is not None:
            self._take_all(self._decoded(before, over))
        self._take_all(self._drawn(extends, decode))
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
        self.waiting.append(i)

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
        if self.behind is not None and moves:
            to, rows = dict(moves), self.behind.row_of.items()
            kept = {to.get(i, i): row for i, row in rows if i not in to.values()}
            self.behind = replace(self.behind, row_of=kept)

    def _text(self, i: int) -> tuple[int, ...]:
        """The text that slot i's request goes on from."""
        request = self.slots[i].request
        assert request is not None
        return request.tokens

    # -- launches -----------------------------------------------------------------------------------------------

    def _rows(self, index: np.ndarray, active: np.ndarray) -> Rows:
        settings = DrawSettings(self.temperature[index], self.top_k[index], self.top_p[index], self.min_p[index])
        fields = (self.words, self.limit, self.stops, self.forced)
        words, limit, stops, forced = (f[index] for f in fields)  # copies: the device reads them later
        return Rows(words, settings, limit, active, stops, forced)  # type: ignore[arg-type]

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
        rows, starts = self._rows(index, last), self.position[index]
        reach = int((starts + lengths)[lengths > 0].max())
        window = next(w for w in self.engine.extend_windows if w >= reach)
        self.state, drawn, logprobs = self.dispatcher.extend(
            self.state, ids, rows, tokens, starts, lengths, window=window, at_once=at_once
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
        n_rows = next(rows for rows in engine.decode_rows if rows > max(i % self.places.each for i in chosen))
        # the host alone sees stop strings; and slots that wait should not wait long
        soon = self.waiting or self._watched(chosen)
        n_steps = min(engine.text_steps if soon else engine.decode_steps, engine.decode_steps, room)
        ahead = 0 if self.behind is None else self.behind.most
        stages = [self.slots[i].stage for i in chosen]
        # what is measured of a dispatch is known by the window of one without drafts
        drafts, shape = engine.drafts_of(n_rows), (n_rows, self._window(chosen, ahead + n_steps))
        if drafts and not engine.pace.pays(shape, stages):
            drafts = 0
        if drafts:
            n_steps = max(1, round(n_steps / (engine.pace.rate(stages) or 1.0)))
        floor = len(chosen) - max(1, len(chosen) // 8)
        return replace(self._decode(chosen, n_rows, n_steps, drafts, floor, ahead), shape=shape)

    def _launch_behind(self, decode: Launched) -> Launched | None:
        """Steps that the device goes on with while the host reads `decode`."""
        chosen, n_steps = list(decode.row_of), min(self.engine.overlap_steps, self.engine.decode_steps)
        if n_steps == 0 or self._watched(chosen):
            return None
        ahead = decode.most + (0 if self.behind is None else self.behind.most)
        return self._decode(chosen, decode.n_rows, n_steps, decode.drawn.shape[1] - 1, 0, ahead)

    def _decode(self, chosen: list[int], n_rows: int, n_steps: int, drafts: int, floor: int, ahead: int) -> Launched:
        """Launches decode steps of slots that may be `ahead` tokens further than the host knows."""
        engine, each = self.engine, self.places.each
        index, most = self.places.first(n_rows), n_steps * (1 + drafts)
        self.state, drawn, logprobs, made, steps, drafted = self.dispatcher.decode_many(
            self.state,
            self._rows(index, self.decoding[index]),
            n_steps,
            floor,
            window=self._window(chosen, ahead + most),
            capacity=engine.decode_steps,
            drafts=drafts,
        )
        row_of = {i: i // each * n_rows + i % each for i in chosen}
        return Launched(row_of, drawn, logprobs, (made, steps, drafted), n_rows, most)

    def _watched(self, chosen: list[int]) -> bool:
        """Whether one of these slots looks for stop strings."""
        return any(self.slots[i].watch is not None for i in chosen)

    def _window(self, chosen: list[int], more: int) -> int:
        """That in which so many tokens more of each of these slots lie."""
        reach = min(int(self.position[chosen].max()) + more, self.engine.cache_length)
        return next(w for w in self.engine.decode_windows if w >= reach)

    # -- results ------------------------------------------------------------------------------------------------

    def _drawn(self, extends: list[Launched], decode: Launched | None) -> Told:
        """Reads what extends and the steps behind them have drawn."""
        found = read_extends(extends)
        if extends:
            self.stats.extend_seconds += self.clock.lap()
        for i, (tokens, scores) in ({} if decode is None else self._decoded(decode, None)).items():
            first, score = found.get(i, ([], []))
            found[i] = first + tokens, score + scores
        return found

    def _decoded(self, decode: Launched, over: float | None) -> Told:
        """Reads what decode steps have drawn, and counts them; `over` is within how many seconds they were over, where
        the host looked later: then they have taken as long as those before them."""
        found, made, steps, drafted = decode.read()
        seconds = self.clock.lap() if over is None else min(over, steps * self.step_seconds)
        rows, pace, drafting = list(decode.row_of.values()), self.engine.pace, decode.drawn.shape[1] > 1
        at_work = np.count_nonzero(made[:, rows], axis=0)
        n = made[:, rows].sum(axis=0, dtype=np.int64)
        self.stats.add_steps(steps, int(at_work.sum()), seconds, draining=self.exhausted and not self.ready)
        self.stats.late += steps * int(np.count_nonzero(n == 0))
        if steps and decode.shape is not None:
            self.step_seconds = seconds / steps
            pace.timed(decode.shape, drafting, self.step_seconds)
        if drafting:
            self.stats.add_drafts(steps, int(at_work.sum()), seconds, drafted, int((n - at_work).sum()))
            for i, tokens, turns in zip(decode.row_of, n.tolist(), at_work.tolist(), strict=True):
                pace.drew(self.slots[i].stage, tokens, turns)
        else:
            first = self.position[list(decode.row_of)] + 1  # positions that a row's first token reads
            self.stats.context += int((first * n + n * (n - 1) // 2).sum())
        return found

    def _take_all(self, found: Told) -> None:
        """A completion that has ended brings its chain's next request."""
        for i in sorted(found):
            if found[i][0]:
                self._take(i, *found[i])

    def _take(self, i: int, tokens: list[int], logprobs: list[float]) -> None:
        """New tokens of slot i."""
        slot = self.slots[i]
        completion = slot.take(tokens, logprobs)
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
