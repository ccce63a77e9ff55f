"""Programs of the sampler on paper: caches are lists of tokens, and the next token is a hash of all that a cache holds.

Whatever the scheduler does wrong (a copy of the wrong slot, a piece too many) gives another text; nothing is compiled,
so a rollout of many chains takes a second. Rows are computed where their slot lies: a row of another shard is refused.
"""

import functools
import zlib
from types import SimpleNamespace

import numpy as np

from selfevo_jax.sample.draft import LONGEST
from selfevo_jax.sample.schedule import Scheduler


def looked_up(text, drafts):
    """What follows the latest of the longest matches of the end of a text, read plainly; None without a match."""
    best, at = 0, 0
    for place in range(len(text) - 1 if drafts else 0):
        same = 0
        while same < min(LONGEST, place + 1) and text[place - same] == text[-1 - same]:
            same += 1
        if same and same >= best:
            best, at = same, place
    if best == 0:
        return None
    longer = list(text)
    for k in range(drafts):
        longer.append(longer[at + 1 + k])
    return longer[len(text) :]


class Unread(np.ndarray):
    """What a device is never done with before it is read."""

    def is_ready(self):
        return False


class PaperPrograms:
    """In place of `Programs`, for an engine of so many slots over `ways` shards."""

    def __init__(self, slots, cache_length, ways, vocab, repeats):
        self.slots, self.ways, self.vocab, self.repeats = slots, ways, vocab, repeats
        self.held = np.full((slots, cache_length), -1, np.int32)
        self.seconds, self.count, self.calls, self.native = 0.0, 0, [], False

    def layout(self, tree):
        return 0

    def compiled(self, name, key, args, *, on_cpu=None, **static):
        return functools.partial(getattr(self, name), **static)

    def next_token(self, slot, position, words, count):
        held = self.held[slot, :position]
        if self.repeats:  # a text that goes on by its last token alone comes round again
            return zlib.crc32(held[-1:]) % self.vocab
        return zlib.crc32(words.tobytes() + bytes([count % 256]), zlib.crc32(held)) % self.vocab

    def shard(self, slot):
        return slot * self.ways // self.slots

    def extend(self, params, state, slots, rows, tokens, starts, lengths, allowed, *, window, at_once):
        n_rows = len(lengths)
        ids = np.arange(self.slots) if slots is None else slots
        drawn = np.zeros(n_rows, np.int32)
        self.calls.append(("extend", n_rows, tokens.shape[1]))
        for row, slot in enumerate(ids.tolist()):
            if slot >= self.slots or not lengths[row]:
                continue
            assert self.shard(slot) == row * self.ways // n_rows
            end = starts[row] + lengths[row]
            assert end <= window
            assert (self.held[slot, : starts[row]] >= 0).all()
            self.held[slot, starts[row] : end] = tokens[row, : lengths[row]]
            if rows.active[row]:
                drawn[row] = self.next_token(slot, end, rows.words[row], 0)
                state.token[slot] = drawn[row]
                state.active[slot] = drawn[row] not in rows.stops[row] and rows.limit[row] > 1
                state.position[slot], state.count[slot] = end, 1
        return state, drawn, np.zeros(n_rows, np.float32)

    def decode_many(self, params, state, rows, n_steps, floor, allowed, *, window, capacity, drafts):
        n_rows = len(rows.active)
        ids = np.arange(self.slots).reshape(self.ways, -1)[:, : n_rows // self.ways].reshape(-1)
        active = state.active[ids] & rows.active
        position, count, steps, drafted = state.position[ids], state.count[ids], 0, 0
        made, drawn = np.zeros((capacity, n_rows), np.int32), np.zeros((capacity, 1 + drafts, n_rows), np.int32)
        while steps < n_steps and active.sum() > floor:
            for row in np.flatnonzero(active).tolist():
                slot = ids[row]
                guesses = looked_up([*self.held[slot, : position[row]].tolist(), int(state.token[slot])], drafts)
                drafted += drafts * (guesses is not None)
                for i in range(1 + drafts):
                    assert position[row] < window
                    self.held[slot, position[row]] = state.token[slot]
                    for counted in (position, count, made[steps]):
                        counted[row] += 1
                    token = self.next_token(slot, position[row], rows.words[row], count[row] - 1)
                    drawn[steps, i, row] = state.token[slot] = token
                    active[row] = token not in rows.stops[row] and count[row] < rows.limit[row]
                    if not active[row] or guesses is None or i == drafts or guesses[i] != token:
                        break
            steps += 1
        state.active[ids], state.position[ids], state.count[ids] = active, position, count
        self.calls.append(("decode", n_rows, steps))
        return state, drawn.view(Unread), np.zeros(drawn.shape, np.float32), made, steps, drafted

    def fork(self, state, sources, targets):
        self.calls.append(("fork", len(sources), 0))
        held, known = self.held.copy(), (state.token, state.active, state.position, state.count)
        before = [x.copy() for x in known]
        for row, (source, target) in enumerate(zip(sources.tolist(), targets.tolist(), strict=True)):
            if target < self.slots:
                assert self.shard(source) == self.shard(target) == row * self.ways // len(sources)
                self.held[target] = held[source]
                for now, then in zip(known, before, strict=True):
                    now[target] = then[source]
        return state


def run_on_paper(engine, chains, repeats=False):
    """EngineStats of a run whose programs are on paper, and the programs; `engine` gives the shapes."""
    ways = 1 if engine.mesh is None else engine.rules.ways("batch", engine.mesh)
    programs = PaperPrograms(engine.slots, engine.cache_length, ways, engine.config.vocab_size, repeats)
    token, position, count = np.zeros((3, engine.slots), np.int32)
    state = SimpleNamespace(token=token, active=np.zeros(engine.slots, bool), position=position, count=count)
    engine.programs, engine.new_state, engine.readable = programs, lambda: state, lambda *rows: rows
    scheduler = Scheduler(engine, None, iter(chains), lambda chain: None)
    while scheduler.step(lambda: None):
        pass
    return scheduler.stats, programs
