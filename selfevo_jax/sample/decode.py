"""The device side of sampling: `extend` prefills a few tokens of some slots, `decode_many` runs many steps.

Both are pure: `SlotState` goes in (donated) and comes out; what is asked of a slot is a handful of numbers, `Rows`,
which the host hands over with each call. All that drawing changes is part of the state, so that decoding can be
launched behind an extend, or behind other decoding, before the host has seen what they drew. An extend works on any
slots, decoding on all or on the first ones; results do not depend on which. On a mesh whose slots lie on several shards
each of them does so with slots of its own.

A step of decoding may check drafts of the next tokens (see `draft`): it computes them all at once, draws each token as
if it were alone, and keeps what was drawn up to the first that differs from its draft.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from selfevo_jax.model import ExpertMesh, KVCache, ModelConfig, TpuAttention, Transformer
from selfevo_jax.model.cache import HeadMesh, copy_rows
from selfevo_jax.model.stack import cached_logits
from selfevo_jax.sample.draft import Grown, proposed, written
from selfevo_jax.sample.methods import KEY_WORDS, DrawSettings, draw, make_keys
from selfevo_jax.sample.programs import NARROW, Programs, narrow_options, native_options
from selfevo_jax.sample.shards import Shards


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["cache", "token", "active", "position", "count", "text"],
    meta_fields=[],
)
@dataclass(frozen=True)
class SlotState:
    """What stays on the device of N slots."""

    cache: KVCache
    token: jax.Array
    """i32[N]: the last token drawn, not yet in the cache."""
    active: jax.Array
    """bool[N]: whether the completion goes on after that token, as far as the device can tell."""
    position: jax.Array
    """i32[N]: where in the cache that token goes."""
    count: jax.Array
    """i32[N]: tokens drawn so far in this completion."""
    text: jax.Array | None = None
    """i32[N, C]: the tokens in each slot's cache, up to `position`, where drafts are looked up in them."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["words", "settings", "limit", "active", "stops", "forced"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Rows:
    """What the host asks of E slots; every field is an array with leading dimension E."""

    words: jax.Array
    """u32[E, KEY_WORDS]: the draw key."""
    settings: DrawSettings
    limit: jax.Array
    """i32[E]: tokens at most in this completion."""
    active: jax.Array
    """bool[E]: which rows take part; of an extend, those whose text it completes, so that what is drawn counts."""
    stops: jax.Array
    """i32[E, S]: stop ids, filled up with -1."""
    forced: jax.Array
    """i32[E]: the token that an extend takes in place of a draw; -1 draws."""


class Dispatcher:
    """The programs bound to the parameters and the slots of one run."""

    def __init__(self, programs: Programs, params: Any, state: SlotState, allowed: jax.Array | None = None) -> None:
        """`allowed` bool[V] are the ids that may be drawn; None allows all."""
        self._programs, self._params, self._allowed = programs, params, allowed
        self._bound = programs.layout((params, state, allowed))

    def extend(
        self,
        state: SlotState,
        slots: np.ndarray | None,
        rows: Rows,
        tokens: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        *,
        window: int,
        at_once: int,
    ) -> tuple[SlotState, jax.Array, jax.Array]:
        """Writes row e's tokens (`tokens[e, :lengths[e]]` of i32[E, L]) at starts[e].. of its slot and draws, or is
        given, the first token after them. `slots` are ids i32[E], or None for the whole batch; attention reads `window`
        positions. The E / W rows of each of W shards name slots of its own, those with tokens first; it computes
        `at_once` of them side by side, and then the next ones, as long as any has tokens.

        Returns the state, drawn i32[E], logprobs f32[E].
        """
        return self._extend(state, slots, rows, tokens, lengths, window, at_once)(
            self._params, state, slots, rows, tokens, starts, lengths, self._allowed
        )

    def decode_many(
        self,
        state: SlotState,
        rows: Rows,
        n_steps: int,
        floor: int,
        *,
        window: int,
        capacity: int,
        drafts: int = 0,
    ) -> tuple[SlotState, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
        """At most n_steps (<= capacity) steps of the first E slots (of each of W shards the first E / W); ends early
        when at most `floor` of all are active (as far as each slice of TPUs can tell).

        A step draws one token a row, or with `drafts` up to 1 + drafts; these are looked up in the state's `text`.

        Returns the state, drawn i32[capacity, 1 + drafts, E], logprobs f32 of the same shape, made i32[capacity, E],
        steps, drafted. made[s, e] counts the tokens of row e in step s, which stand in drawn[s, :made[s, e], e];
        drafted counts the drafts that were found.
        """
        n, least = np.int32(n_steps), np.int32(floor)
        program = self._decode(state, rows, window, capacity, drafts)
        return program(self._params, state, rows, n, least, self._allowed)

    def fork(self, state: SlotState, sources: np.ndarray, targets: np.ndarray) -> SlotState:
        """Copies slots `sources` i32[R] to slots `targets` i32[R] of the same shard, R / W for each of W shards; a
        target out of range is left out."""
        return self._fork(state, len(sources))(state, sources, targets)

    def prepare_fork(self, state: SlotState, n_rows: int) -> None:
        """Compiles `fork` for so many slots without running it."""
        self._fork(state, n_rows)

    def prepare_extend(
        self, state: SlotState, n_rows: int, whole: bool, n_stops: int, length: int, window: int, at_once: int
    ) -> None:
        """Compiles `extend` for these shapes without running it."""
        tokens, lengths = np.zeros((n_rows, length), np.int32), np.zeros(n_rows, np.int32)
        self._extend(state, None if whole else lengths, empty_rows(n_rows, n_stops), tokens, lengths, window, at_once)

    def prepare_decode(
        self, state: SlotState, n_rows: int, n_stops: int, window: int, capacity: int, drafts: int = 0
    ) -> None:
        """Compiles `decode_many` for these shapes without running it."""
        self._decode(state, empty_rows(n_rows, n_stops), window, capacity, drafts)

    def _fork(self, state: Any, n_rows: int) -> Any:
        ids = np.zeros(n_rows, np.int32)
        return self._programs.compiled("fork", (self._bound, n_rows), (state, ids, ids))

    def _extend(self, state: Any, slots: Any, rows: Rows, tokens: Any, lengths: Any, window: int, at_once: int) -> Any:
        key = (self._bound, slots is None, tokens.shape, rows.stops.shape)
        args = (self._params, state, slots, rows, tokens, lengths, lengths, self._allowed)
        return self._programs.compiled("extend", key, args, window=window, at_once=at_once)

    def _decode(self, state: Any, rows: Rows, window: int, capacity: int, drafts: int) -> Any:
        key = (self._bound, rows.stops.shape)
        args = (self._params, state, rows, np.int32(0), np.int32(0), self._allowed)
        static = {"window": window, "capacity": capacity, "drafts": drafts}
        on_cpu = narrow_options if len(rows.active) * (1 + drafts) <= NARROW else None
        on_cpu = native_options if self._programs.native and not drafts else on_cpu
        return self._programs.compiled("decode_many", key, args, on_cpu=on_cpu, **static)


def empty_rows(n_rows: int, n_stops: int) -> Rows:
    """Rows that ask for nothing, in the shapes and dtypes of real ones."""
    whole, real = np.zeros(n_rows, np.int32), np.zeros(n_rows, np.float32)
    settings = DrawSettings(real, whole, real, real)  # type: ignore[arg-type]
    stops = np.full((n_rows, n_stops), -1, np.int32)
    words, active = np.zeros((n_rows, KEY_WORDS), np.uint32), np.zeros(n_rows, bool)
    return Rows(words, settings, whole, active, stops, whole - 1)  # type: ignore[arg-type]


def _take_rows(array: jax.Array, slots: jax.Array | None) -> jax.Array:
    return array if slots is None else array.at[slots].get(mode="clip")


def _put_rows(array: jax.Array, new: jax.Array, slots: jax.Array | None) -> jax.Array:
    return new if slots is None else array.at[slots].set(new, mode="drop")


def _first_rows(cache: KVCache, n_rows: int, window: int) -> KVCache:
    """The parts that hold the first `window` positions, of the first slots; of all slots they are where they are."""
    first = cache.first(window)
    return first if n_rows == first.k[0].shape[0] else jax.tree.map(lambda leaf: leaf[:n_rows], first)


def _put_first_rows(cache: KVCache, new: KVCache) -> KVCache:
    """The cache with what `_first_rows` gave in its place again."""

    def put(leaf: jax.Array, rows: jax.Array) -> jax.Array:
        return rows if rows.shape == leaf.shape else leaf.at[: rows.shape[0]].set(rows)

    return cache.with_first(jax.tree.map(put, cache.first(new.length), new))


@functools.lru_cache(maxsize=8)
def make_programs(
    config: ModelConfig,
    dtype: str,
    param_dtype: str,
    state_layout: SlotState | None = None,
    rows_sharding: NamedSharding | None = None,
    host_sharding: NamedSharding | None = None,
    tpu: TpuAttention | None = None,
    skips: bool = False,
    experts: ExpertMesh | None = None,
    shards: Shards | None = None,
    scan: bool = False,
    native: bool = False,
) -> Programs:
    """The jitted programs. With shardings given: those of the slots, of what an extend draws in each row, and of what
    decoding does, which every host reads (replicated). `shards` are what the slots lie on where they are several.
    `scan`: parameters and cache have their layers stacked. `native`: decoding attends to the cache in C."""
    kinds: Any = {"dtype": jnp.dtype(dtype), "param_dtype": jnp.dtype(param_dtype)}
    if shards is not None:
        tpu = None if tpu is None else tpu.inside(shards.axes)
        experts = None if experts is None else experts.inside(shards.axes)
    outer = () if shards is None else shards.axes
    heads = None if state_layout is None else HeadMesh.of(state_layout.cache, scan, outer)
    model = Transformer(config, **kinds, tpu=tpu, native=native, skips=skips, experts=experts, heads=heads)
    apply: Any = functools.partial(cached_logits, model)
    everywhere = (lambda count: count) if shards is None else shards.likely_total

    def ended(rows: Rows, token: jax.Array, logprob: jax.Array, count: jax.Array) -> jax.Array:
        """bool[E]: whether a completion of `count` tokens ends with this one, stop strings aside."""
        stopped = jnp.any(token[:, None] == rows.stops, axis=-1) | (count >= rows.limit)
        return stopped | ~jnp.isfinite(logprob)

    def extend_once(
        params: Any,
        state: SlotState,
        slots: jax.Array | None,
        rows: Rows,
        tokens: jax.Array,
        starts: jax.Array,
        lengths: jax.Array,
        allowed: jax.Array | None,
        *,
        window: int,
    ) -> tuple[SlotState, jax.Array, jax.Array]:
        offsets = jnp.arange(tokens.shape[1])
        real = offsets < lengths[:, None]
        positions = jnp.where(real, starts[:, None] + offsets, state.cache.length)  # written nowhere
        logits, cache = apply(
            params,
            tokens,
            positions,
            cache=state.cache,
            slots=slots,
            window=window,
            take=jnp.maximum(lengths - 1, 0),
        )
        none = jnp.zeros_like(lengths)
        drawn, logprobs = draw(logits, make_keys(rows.words), none, rows.settings, allowed, rows.forced)
        going = ~ended(rows, drawn, logprobs, none + 1)

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            return _put_rows(old, jnp.where(rows.active, new, _take_rows(old, slots)), slots)

        token, active = put(state.token, drawn), put(state.active, going)
        position, count, text = put(state.position, starts + lengths), put(state.count, none + 1), state.text
        if text is not None:
            ids = jnp.arange(len(text)) if slots is None else slots
            text = text.at[ids[:, None], positions].set(tokens, mode="drop")
        return SlotState(cache, token, active, position, count, text), drawn, logprobs

    def extend(
        params: Any,
        state: SlotState,
        slots: jax.Array | None,
        rows: Rows,
        tokens: jax.Array,
        starts: jax.Array,
        lengths: jax.Array,
        allowed: jax.Array | None = None,
        *,
        window: int,
        at_once: int,
    ) -> tuple[SlotState, jax.Array, jax.Array]:
        n_rows = tokens.shape[0]
        if n_rows == at_once:
            return extend_once(params, state, slots, rows, tokens, starts, lengths, allowed, window=window)
        given, filled = (slots, rows, tokens, starts, lengths), jnp.sum(lengths > 0)

        def some(carry: Any) -> Any:
            at, state, drawn, logprobs = carry
            part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, at, at_once), given)
            ids, own, text, begins, held = part
            state, new, scores = extend_once(params, state, ids, own, text, begins, held, allowed, window=window)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=at, axis=0)
            return at + at_once, state, put(drawn, new), put(logprobs, scores)

        start = (jnp.int32(0), state, jnp.zeros(n_rows, jnp.int32), jnp.zeros(n_rows, jnp.float32))
        _, state, drawn, logprobs = jax.lax.while_loop(lambda carry: carry[0] < filled, some, start)
        return state, drawn, logprobs

    def decode_many(
        params: Any,
        state: SlotState,
        rows: Rows,
        n_steps: jax.Array,
        floor: jax.Array,
        allowed: jax.Array | None = None,
        *,
        window: int,
        capacity: int,
        drafts: int = 0,
    ) -> tuple[SlotState, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
        n_rows = rows.active.shape[0]
        token, position, active = state.token[:n_rows], state.position[:n_rows], state.active[:n_rows] & rows.active
        text = None if state.text is None else written(state.text[:n_rows, :window], position, token, active)
        keys = make_keys(rows.words)
        cache = _first_rows(state.cache, n_rows, window)

        def go_on(carry: Any) -> jax.Array:
            step, _, grown, _ = carry
            return (step < n_steps) & (everywhere(jnp.sum(grown.active)) > floor)

        def one(carry: Any) -> Any:
            step, cache, grown, drafted = carry
            asked, guesses = grown.token[:, None], None
            if drafts and grown.text is not None:
                guesses, found = proposed(grown.text, grown.position, drafts)
                drafted += drafts * jnp.sum(found & grown.active)
                asked = jnp.concatenate([asked, guesses], axis=1)
            where = grown.position[:, None] + jnp.arange(1 + drafts)
            where = jnp.where(grown.active[:, None], where, cache.length)
            logits, cache = apply(params, asked, where, cache=cache, window=window)

            def take(i: Any, carry: Any) -> Any:
                going, grown = carry
                here = jax.lax.dynamic_index_in_dim(logits, i, axis=1, keepdims=False)
                new, logprob = draw(here, keys, grown.count, rows.settings, allowed)
                over = ended(rows, new, logprob, grown.count + 1)
                grown = grown.with_token(step, i, new, logprob, going, over)
                if guesses is not None:  # a token more can be drawn where the draft of this one was right
                    going &= ~over & (i < drafts) & (new == guesses[:, jnp.minimum(i, drafts - 1)])
                return going, grown

            first = grown.active, grown
            _, grown = take(0, first) if guesses is None else jax.lax.fori_loop(0, 1 + drafts, take, first)
            return step + 1, cache, grown, drafted

        shape = (capacity, 1 + drafts, n_rows)
        start = Grown(
            token,
            position,
            state.count[:n_rows],
            active,
            text,
            jnp.zeros(shape, jnp.int32),
            jnp.zeros(shape, jnp.float32),
            jnp.zeros((capacity, n_rows), jnp.int32),
        )
        step, cache, grown, drafted = jax.lax.while_loop(go_on, one, (jnp.int32(0), cache, start, jnp.int32(0)))
        state = replace(
            state,
            cache=_put_first_rows(state.cache, cache),
            token=state.token.at[:n_rows].set(grown.token),
            active=state.active.at[:n_rows].set(grown.active),
            position=state.position.at[:n_rows].set(grown.position),
            count=state.count.at[:n_rows].set(grown.count),
            text=None if state.text is None else state.text.at[:n_rows, :window].set(grown.text),
        )
        drafted = drafted if shards is None else shards.total(drafted)
        step = step if shards is None else shards.most(step)
        return state, grown.drawn, grown.logprobs, grown.made, step, drafted

    def fork(state: SlotState, sources: jax.Array, targets: jax.Array) -> SlotState:
        known = (state.token, state.active, state.position, state.count, state.text)
        known = jax.tree.map(lambda x: x.at[targets].set(x[sources], mode="drop"), known)
        return SlotState(copy_rows(state.cache, sources, targets, heads), *known)

    if shards is not None:
        extend, decode_many, fork = shards.extend(extend), shards.decode_many(decode_many), shards.fork(fork)
    out: Any = {}
    if state_layout is not None:
        out["extend"] = (state_layout, *[rows_sharding] * 2)
        out |= {"decode": (state_layout, *[host_sharding] * 5), "fork": state_layout}
    return Programs(
        extend=jax.jit(
            extend, donate_argnums=1, static_argnames=("window", "at_once"), out_shardings=out.get("extend")
        ),
        decode_many=jax.jit(
            decode_many,
            donate_argnums=1,
            static_argnames=("window", "capacity", "drafts"),
            out_shardings=out.get("decode"),
        ),
        fork=jax.jit(fork, donate_argnums=0, out_shardings=out.get("fork")),
        native=native,
    )
