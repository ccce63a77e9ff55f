"""Programs of the sampler on paper: caches are lists of tokens, and the next token is a hash of all that a cache holds.

Whatever the scheduler does wrong (a copy of the wrong slot, a piece too many) gives another text; nothing is compiled,
so a rollout of many chains takes a second. Rows are computed where their slot lies: a row of another shard is refused.
"""

import functools
import zlib
from types import SimpleNamespace

import numpy as np

from selfevo_jax.sample.schedule import Scheduler


class PaperPrograms:
    """In place of `Programs`, for an engine of so many slots over `ways` shards."""

    def __init__(self, slots, cache_length, ways, vocab):
        self.slots, self.ways, self.vocab = slots, ways, vocab
        self.held = np.full((slots, cache_length), -1, np.int32)
        self.seconds, self.count, self.calls = 0.0, 0, []

    def layout(self, tree):
        return 0

    def compiled(self, name, key, args, *, narrow=False, **static):
        return functools.partial(getattr(self, name), **static)

    def next_token(self, slot, position, words, count):
        held = self.held[slot, :position]
        return zlib.crc32(words.tobytes() + bytes([count % 256]), zlib.crc32(held)) % self.vocab

    def shard(self, slot):
        return slot * self.ways // self.slots

    def extend(self, params, state, slots, rows, tokens, lengths, allowed, *, window, at_once):
        n_rows = len(lengths)
        ids = np.arange(self.slots) if slots is None else slots
        drawn = np.zeros(n_rows, np.int32)
        self.calls.append(("extend", n_rows, tokens.shape[1]))
        for row, slot in enumerate(ids.tolist()):
            if slot >= self.slots or not lengths[row]:
                continue
            assert self.shard(slot) == row * self.ways // n_rows
            end = rows.position[row] + lengths[row]
            assert end <= window
            assert (self.held[slot, : rows.position[row]] >= 0).all()
            self.held[slot, rows.position[row] : end] = tokens[row, : lengths[row]]
            if rows.active[row]:
                drawn[row] = self.next_token(slot, end, rows.words[row], 0)
                state.token[slot] = drawn[row]
                state.active[slot] = drawn[row] not in rows.stops[row] and rows.limit[row] > 1
        return state, drawn, np.zeros(n_rows, np.float32)

    def decode_many(self, params, state, rows, n_steps, floor, allowed, *, window, capacity):
        n_rows = len(rows.position)
        ids = np.arange(self.slots).reshape(self.ways, -1)[:, : n_rows // self.ways].reshape(-1)
        active = state.active[ids] & rows.active
        position, made, steps = rows.position.copy(), np.zeros(n_rows, np.int32), 0
        drawn = np.zeros((capacity, n_rows), np.int32)
        while steps < n_steps and active.sum() > floor:
            for row in np.flatnonzero(active).tolist():
                slot = ids[row]
                assert position[row] < window
                self.held[slot, position[row]] = state.token[slot]
                position[row], made[row] = position[row] + 1, made[row] + 1
                count = rows.count[row] + made[row]
                token = self.next_token(slot, position[row], rows.words[row], count - 1)
                drawn[steps, row] = state.token[slot] = token
                active[row] = token not in rows.stops[row] and count < rows.limit[row]
            steps += 1
        state.active[ids] = active
        self.calls.append(("decode", n_rows, steps))
        return state, drawn, np.zeros((capacity, n_rows), np.float32), made, steps

    def fork(self, state, sources, targets):
        self.calls.append(("fork", len(sources), 0))
        held, token, active = self.held.copy(), state.token.copy(), state.active.copy()
        for row, (source, target) in enumerate(zip(sources.tolist(), targets.tolist(), strict=True)):
            if target < self.slots:
                assert self.shard(source) == self.shard(target) == row * self.ways // len(sources)
                self.held[target], state.token[target] = held[source], token[source]
                state.active[target] = active[source]
        return state


def run_on_paper(engine, chains):
    """EngineStats of a run whose programs are on paper, and the programs; `engine` gives the shapes."""
    ways = 1 if engine.mesh is None else engine.rules.ways("batch", engine.mesh)
    programs = PaperPrograms(engine.slots, engine.cache_length, ways, engine.config.vocab_size)
    state = SimpleNamespace(token=np.zeros(engine.slots, np.int32), active=np.zeros(engine.slots, bool))
    engine.programs, engine.new_state, engine.readable = programs, lambda: state, lambda *rows: rows
    scheduler = Scheduler(engine, None, iter(chains), lambda chain: None)
    while scheduler.step(lambda: None):
        pass
    return scheduler.stats, programs
