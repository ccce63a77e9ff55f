"""The device side of sampling: `extend` prefills a few tokens of some slots, `decode_many` runs many steps.

Both are pure: the cache goes in (donated) and comes out; all that is known of a slot besides its cache is a handful
of numbers, `Rows`, which the host hands over with each call. A call works on the whole slot batch or on a gathered
subset of it; results do not depend on which.
"""

import functools
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from selfevo_jax.model import KVCache, ModelConfig, Transformer
from selfevo_jax.sample.methods import KEY_WORDS, DrawSettings, draw, make_keys


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["words", "settings", "token", "position", "count", "limit", "active", "stops"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Rows:
    """The state of E slots beside their caches; every field is an array with leading dimension E."""

    words: jax.Array
    """u32[E, KEY_WORDS]: the draw key."""
    settings: DrawSettings
    token: jax.Array
    """i32[E]: the last token drawn, not yet in the cache."""
    position: jax.Array
    """i32[E]: where in the cache it goes."""
    count: jax.Array
    """i32[E]: tokens drawn so far in this completion."""
    limit: jax.Array
    """i32[E]: tokens at most in this completion."""
    active: jax.Array
    """bool[E]."""
    stops: jax.Array
    """i32[E, S]: stop ids, filled up with -1."""


class Programs:
    """The compiled functions of one model, dtype and placement, each shape compiled once: at its first use or ahead.

    Shared by engines that agree on model, dtype and placement.
    """

    def __init__(self, extend: Any, decode_many: Any, fork: Any) -> None:
        self._functions = {"extend": extend, "decode_many": decode_many, "fork": fork}
        self._ready: dict[Any, Any] = {}
        self._layouts: dict[Any, int] = {}
        self.seconds = 0.0
        """Spent compiling."""

    @property
    def count(self) -> int:
        """How many programs have been compiled."""
        return len(self._ready)

    def layout(self, tree: Any) -> int:
        """A number for the shapes, dtypes and shardings of a tree of arrays, cheap to compare."""
        key = tuple((x.shape, x.dtype, x.sharding) for x in jax.tree.leaves(tree))
        return self._layouts.setdefault(key, len(self._layouts))

    def compiled(self, name: str, key: Any, args: Any, **static: int) -> Any:
        """The program for these shapes; `key` tells them apart, and `args` may be arrays or their shapes."""
        key = (name, key, *sorted(static.items()))
        if key not in self._ready:
            begin = time.perf_counter()
            self._ready[key] = self.lower(name, args, **static).compile()
            self.seconds += time.perf_counter() - begin
        return self._ready[key]

    def lower(self, name: str, args: Any, **static: int) -> Any:
        """The program for these arguments, or arrays' shapes, before it is compiled."""
        return self._functions[name].lower(*args, **static)


class Dispatcher:
    """The programs bound to the parameters and the cache of one run."""

    def __init__(self, programs: Programs, params: Any, cache: KVCache) -> None:
        self._programs, self._params = programs, params
        self._bound = programs.layout((params, cache))

    def extend(
        self,
        cache: KVCache,
        slots: np.ndarray | None,
        rows: Rows,
        tokens: np.ndarray,
        lengths: np.ndarray,
        *,
        window: int,
    ) -> tuple[KVCache, jax.Array, jax.Array]:
        """Writes row e's tokens (`tokens[e, :lengths[e]]` of i32[E, L]) at position[e].. of its slot and draws the
        token after them. `slots` are ids i32[E], or None for the whole batch; attention reads `window` positions.

        Returns the cache, drawn i32[E], logprobs f32[E].
        """
        return self._extend(cache, slots, rows, tokens, lengths, window)(
            self._params, cache, slots, rows, tokens, lengths
        )

    def decode_many(
        self,
        cache: KVCache,
        slots: np.ndarray | None,
        rows: Rows,
        n_steps: int,
        floor: int,
        *,
        window: int,
        capacity: int,
    ) -> tuple[KVCache, jax.Array, jax.Array, jax.Array, jax.Array]:
        """At most n_steps (<= capacity) steps; ends early when at most `floor` rows are still active.

        Returns the cache, drawn i32[capacity, E], logprobs f32[capacity, E], made i32[E], steps. made[e] counts the
        tokens of row e, which stand in drawn[:made[e], e].
        """
        n, least = np.int32(n_steps), np.int32(floor)
        program = self._decode(cache, slots, rows, window, capacity)
        return program(self._params, cache, slots, rows, n, least)

    def fork(self, cache: KVCache, sources: np.ndarray, targets: np.ndarray) -> KVCache:
        """Copies the caches of slots `sources` i32[R] to slots `targets` i32[R]; a target out of range is left out."""
        return self._fork(cache, len(sources))(cache, sources, targets)

    def prepare_fork(self, cache: KVCache, n_rows: int) -> None:
        """Compiles `fork` for so many slots without running it."""
        self._fork(cache, n_rows)

    def prepare_extend(self, cache: KVCache, n_rows: int, whole: bool, n_stops: int, length: int, window: int) -> None:
        """Compiles `extend` for these shapes without running it."""
        tokens, lengths = np.zeros((n_rows, length), np.int32), np.zeros(n_rows, np.int32)
        self._extend(cache, None if whole else lengths, empty_rows(n_rows, n_stops), tokens, lengths, window)

    def prepare_decode(
        self, cache: KVCache, n_rows: int, whole: bool, n_stops: int, window: int, capacity: int
    ) -> None:
        """Compiles `decode_many` for these shapes without running it."""
        slots = None if whole else np.zeros(n_rows, np.int32)
        self._decode(cache, slots, empty_rows(n_rows, n_stops), window, capacity)

    def _fork(self, cache: Any, n_rows: int) -> Any:
        ids = np.zeros(n_rows, np.int32)
        return self._programs.compiled("fork", (self._bound, n_rows), (cache, ids, ids))

    def _extend(self, cache: Any, slots: Any, rows: Rows, tokens: Any, lengths: Any, window: int) -> Any:
        key = (self._bound, slots is None, tokens.shape, rows.stops.shape)
        args = (self._params, cache, slots, rows, tokens, lengths)
        return self._programs.compiled("extend", key, args, window=window)

    def _decode(self, cache: Any, slots: Any, rows: Rows, window: int, capacity: int) -> Any:
        key = (self._bound, slots is None, rows.stops.shape)
        args = (self._params, cache, slots, rows, np.int32(0), np.int32(0))
        return self._programs.compiled("decode_many", key, args, window=window, capacity=capacity)


def empty_rows(n_rows: int, n_stops: int) -> Rows:
    """Rows that ask for nothing, in the shapes and dtypes of real ones."""
    whole, real = np.zeros(n_rows, np.int32), np.zeros(n_rows, np.float32)
    settings = DrawSettings(real, whole, real, real)  # type: ignore[arg-type]
    stops = np.full((n_rows, n_stops), -1, np.int32)
    words, active = np.zeros((n_rows, KEY_WORDS), np.uint32), np.zeros(n_rows, bool)
    return Rows(words, settings, whole, whole, whole, whole, active, stops)  # type: ignore[arg-type]


def _take(cache: KVCache, slots: jax.Array | None, window: int) -> KVCache:
    if slots is None:
        return jax.tree.map(lambda leaf: leaf[:, :, :window], cache)
    return jax.tree.map(lambda leaf: leaf[:, :, :window].at[slots].get(mode="clip"), cache)


def _put(cache: KVCache, part: KVCache, slots: jax.Array | None, window: int) -> KVCache:
    if slots is None:
        return jax.tree.map(lambda leaf, new: leaf.at[:, :, :window].set(new), cache, part)
    return jax.tree.map(lambda leaf, new: leaf.at[slots, :, :window].set(new, mode="drop"), cache, part)


@functools.lru_cache(maxsize=8)
def make_programs(
    config: ModelConfig,
    dtype: str,
    cache_sharding: NamedSharding | None = None,
    rows_sharding: NamedSharding | None = None,
    host_sharding: NamedSharding | None = None,
) -> Programs:
    """The two jitted programs. With shardings given: those of the cache leaves, of per-row arrays, and of results
    that every host reads (replicated)."""
    model = Transformer(config, dtype=jnp.dtype(dtype))
    apply: Any = model.apply

    def spread(tree: Any) -> Any:
        if rows_sharding is None:
            return tree
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, rows_sharding), tree)

    def extend(
        params: Any,
        cache: KVCache,
        slots: jax.Array | None,
        rows: Rows,
        tokens: jax.Array,
        lengths: jax.Array,
        *,
        window: int,
    ) -> tuple[KVCache, jax.Array, jax.Array]:
        rows, tokens, lengths = spread((rows, tokens, lengths))
        part = _take(cache, slots, window)
        offsets = jnp.arange(tokens.shape[1])
        real = offsets < lengths[:, None]
        positions = jnp.where(real, rows.position[:, None] + offsets, window)  # out of range: written nowhere
        logits, part = apply({"params": params}, tokens, positions, cache=part, take=jnp.maximum(lengths - 1, 0))
        drawn, logprobs = draw(logits, make_keys(rows.words), rows.count, rows.settings)
        return _put(cache, part, slots, window), drawn, logprobs

    def decode_many(
        params: Any,
        cache: KVCache,
        slots: jax.Array | None,
        rows: Rows,
        n_steps: jax.Array,
        floor: jax.Array,
        *,
        window: int,
        capacity: int,
    ) -> tuple[KVCache, jax.Array, jax.Array, jax.Array, jax.Array]:
        rows = spread(rows)
        keys = make_keys(rows.words)
        n_rows = rows.token.shape[0]
        part = _take(cache, slots, window)

        def go_on(carry: Any) -> jax.Array:
            step, _, _, _, _, active, _, _ = carry
            return (step < n_steps) & (jnp.sum(active) > floor)

        def one(carry: Any) -> Any:
            step, part, token, position, count, active, drawn, logprobs = carry
            where = jnp.where(active, position, window)
            logits, part = apply({"params": params}, token[:, None], where[:, None], cache=part)
            new, logprob = draw(logits[:, 0], keys, count, rows.settings)
            new = jnp.where(active, new, token)
            drawn = drawn.at[step].set(new)
            logprobs = logprobs.at[step].set(logprob)
            grown = active.astype(jnp.int32)
            count = count + grown
            ended = jnp.any(new[:, None] == rows.stops, axis=-1) | (count >= rows.limit)
            ended = ended | ~jnp.isfinite(logprob)
            return step + 1, part, new, position + grown, count, active & ~ended, drawn, logprobs

        start = (
            jnp.int32(0),
            part,
            rows.token,
            rows.position,
            rows.count,
            rows.active,
            jnp.zeros((capacity, n_rows), jnp.int32),
            jnp.zeros((capacity, n_rows), jnp.float32),
        )
        step, part, _, _, count, _, drawn, logprobs = jax.lax.while_loop(go_on, one, start)
        return _put(cache, part, slots, window), drawn, logprobs, count - rows.count, step

    def fork(cache: KVCache, sources: jax.Array, targets: jax.Array) -> KVCache:
        return jax.tree.map(lambda leaf: leaf.at[targets].set(leaf[sources], mode="drop"), cache)

    out: Any = {}
    if cache_sharding is not None:
        n_layers = config.n_layers
        each: Any = (cache_sharding,) * n_layers
        caches = KVCache(k=each, v=each)
        out = {"extend": (caches, *[host_sharding] * 2), "decode": (caches, *[host_sharding] * 4), "fork": caches}
    return Programs(
        extend=jax.jit(extend, donate_argnums=1, static_argnames="window", out_shardings=out.get("extend")),
        decode_many=jax.jit(
            decode_many,
            donate_argnums=1,
            static_argnames=("window", "capacity"),
            out_shardings=out.get("decode"),
        ),
        fork=jax.jit(fork, donate_argnums=0, out_shardings=out.get("fork")),
    )
