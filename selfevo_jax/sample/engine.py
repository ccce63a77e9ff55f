"""The host side of sampling: a fixed number of slots, refilled at once, each keeping its cache along a chain."""

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from selfevo_jax import hosts
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import (
    LANES,
    ExpertMesh,
    KVCache,
    ModelConfig,
    TpuAttention,
    abstract_params,
    cache_shardings,
    init_cache,
    used_params,
)
from selfevo_jax.native import calls as native
from selfevo_jax.sample import shapes
from selfevo_jax.sample.decode import Dispatcher, SlotState, make_programs
from selfevo_jax.sample.floor import decode_floor
from selfevo_jax.sample.memory import kernel_width, reads_by_kernel, steps_in_c, tree_bytes
from selfevo_jax.sample.methods import drawable_ids
from selfevo_jax.sample.programs import Programs
from selfevo_jax.sample.request import Chain, Completion, Request, Single
from selfevo_jax.sample.schedule import Scheduler
from selfevo_jax.sample.shards import Shards
from selfevo_jax.sample.speculation import Pace, Speculation
from selfevo_jax.sample.stats import EngineStats
from selfevo_jax.sample.stops import Stream, TextTokenizer
from selfevo_jax.sample.weights import Weights, scanning_pays
from selfevo_jax.sharding import DECODE_RULES, ShardingRules, replicated, reshard, spans_processes

Progress = Callable[[EngineStats], None]


STORAGE_DTYPES = ("float32", "bfloat16", "int8")
"""What parameters and cache may be kept in while decoding."""


def storage_dtype(name: str, wanted: Any, default: Any) -> Any:
    """The dtype wanted, or the default for None. Raises ConfigError on any other than STORAGE_DTYPES."""
    if wanted is None:
        return jnp.dtype(default)
    try:
        found = jnp.dtype(wanted)
    except TypeError:
        found = None
    if found is None or found.name not in STORAGE_DTYPES:
        raise ConfigError(f"{name} is {wanted!r}; expected {', '.join(STORAGE_DTYPES)} or None (as `dtype`)")
    return found


class Engine:
    """Samples from one model shape. Programs are compiled once an engine; parameters are passed with each run.

    Args:
      model_config: the decoder's shape.
      tokenizer: turns tokens into text; its vocabulary may be smaller than the model's. Ids that it has no text for are
        never drawn.
      slots: texts decoded side by side; on a mesh rounded up to a multiple of its shards, data * fsdp.
      cache_length: C, tokens a slot can hold (prompt and completion); at most the model's positions.
      seed: enters every draw.
      mesh, rules: where to run; slots lie over data and fsdp, parameters and kv heads over tensor.
      dtype: of compute. Results are independent of slots, order and mesh in float32 only: in bfloat16 the
        rounding depends on the shape of the batch.
      param_dtype: of the parameters while decoding, float32, bfloat16 or int8 (matrices with float32 scales, norms and
        biases in float32); None takes `dtype`.
      cache_dtype: of the KV cache, the same names (int8 with float32 scales for each position and head); None takes
        `dtype`. A value on the edge of two int8 steps may round either way by the last bit of the sum that made it.
      extend_rows, extend_lengths: shapes of `extend`; each pair that occurs is one compilation. Without rows, a few
        are chosen for each length (on several shards each goes through as many as wait there); without lengths,
        `compilations` fits them to the data.
      decode_steps: steps of one dispatch at most; text_steps: the same where a request has stop strings, which the
        host looks for between dispatches.
      extend_tokens: tokens of one extend at most on each shard, padding included (bounds its memory).
      speculation: drafts that decode steps check, in each slot's own text; None: none.
      overlap_steps: steps launched behind a dispatch, which the device runs while the host reads what was drawn and
        readies the next one; None: none on a CPU, whose cores do the host's work too, and `OVERLAP_STEPS` elsewhere.
      scan_layers: whether programs scan over the layers (where their kinds repeat), which takes a fraction of the time
        to compile; None: where a TPU's paged kernel reads the cache and a step takes no longer so (`scanning_pays`).

    Raises ConfigError for sizes that cannot work.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        tokenizer: TextTokenizer,
        *,
        slots: int,
        cache_length: int,
        seed: int = 0,
        mesh: Mesh | None = None,
        rules: ShardingRules | None = None,
        dtype: Any = jnp.float32,
        param_dtype: Any = None,
        cache_dtype: Any = None,
        extend_rows: Sequence[int] | None = None,
        extend_lengths: Sequence[int] | None = None,
        decode_steps: int = 32,
        text_steps: int = 8,
        extend_tokens: int = shapes.EXTEND_TOKENS,
        stream: Callable[[Any], Stream] | None = None,
        speculation: Speculation | None = None,
        overlap_steps: int | None = None,
        scan_layers: bool | None = None,
    ) -> None:
        if slots < 1:
            raise ConfigError(f"slots is {slots}; expected at least 1")
        if not 1 < cache_length <= model_config.positions:
            raise ConfigError(
                f"cache_length is {cache_length}; expected 2 to {model_config.positions}, the longest text of this "
                "model (its positions)"
            )
        self.config, self.tokenizer, self.seed = model_config, tokenizer, seed
        self.mesh, self.rules = mesh, rules if rules is not None else DECODE_RULES
        self.cache_length, self.dtype = cache_length, jnp.dtype(dtype)
        self.param_dtype = storage_dtype("param_dtype", param_dtype, self.dtype)
        self.cache_dtype = storage_dtype("cache_dtype", cache_dtype, self.dtype)
        self.decode_steps, self.text_steps, self.extend_tokens = decode_steps, text_steps, extend_tokens
        if stream is None:
            from selfevo_jax.text import StreamDecoder

            stream = StreamDecoder
        self.drawable = drawable_ids(tokenizer, model_config.vocab_size)
        self.new_stream: Callable[[], Stream] = functools.partial(stream, tokenizer)
        host_sharding = None if mesh is None else replicated(mesh)
        on_shards = Shards.of(mesh, self.rules)
        self.shards = 1 if on_shards is None else on_shards.count
        each = -(-slots // self.shards)
        self.slots = slots = each * self.shards
        given = [-(-rows // self.shards) for rows in extend_rows or ()]
        self.extend_rows = tuple(sorted({min(rows, each) for rows in given or (shapes.extend_rows(each),)}))
        # no clock may change a text: in other dtypes than float32 the rounding depends on the shape of a step
        timed = self.dtype == self.cache_dtype == jnp.float32
        self._speculation, self.pace = speculation, Pace.of(speculation, timed, spans_processes(mesh))
        on_cpu = (jax.default_backend() if mesh is None else mesh.devices.flat[0].platform) == "cpu"
        self._on_cpu, self._fitted_rows = on_cpu, not extend_rows
        self.overlap_steps = (0 if on_cpu else shapes.OVERLAP_STEPS) if overlap_steps is None else overlap_steps
        self._alone_from = shapes.DISPATCH_FLOPS_CPU / (2 * used_params(model_config)) if on_cpu else math.inf
        self.extend_lengths = tuple(sorted(extend_lengths or shapes.length_buckets(cache_length)))
        self._fit_lengths, self._multiple = extend_lengths is None, 1 if on_cpu else 8
        self.n_stops, self.prepared = 4, False
        tpu = TpuAttention.choose(model_config, mesh, self.rules)
        multiple, capacity = 64, cache_length
        if tpu is not None:
            multiple, capacity = LANES, -(-cache_length // LANES) * LANES
        by_kernel = reads_by_kernel(model_config, mesh, self.rules, cache_length, self.dtype, self.cache_dtype)
        pays = by_kernel and scanning_pays(model_config, mesh, self.rules, self.param_dtype)
        repeats = model_config.period < model_config.n_layers
        self.scan_layers = repeats and (pays if scan_layers is None else scan_layers)
        width = kernel_width(model_config) if by_kernel else model_config.head_dim
        keys = (slots, model_config.n_kv_heads, capacity, width)
        self.decode_rows = tuple(sorted({-(-rows // self.shards) for rows in shapes.decode_rows(slots, by_kernel)}))
        self._tpu, self._keys = tpu, jax.ShapeDtypeStruct(keys, self.cache_dtype)
        windows = ends = shapes.cache_windows(capacity, multiple)
        if by_kernel:
            ends = (capacity,)  # the kernel takes the whole cache in one array, and reads no more than a slot holds
        parts = [end - start for start, end in pairwise((0, *ends))]
        # a program that skips what its queries do not reach needs no other for a smaller window
        self.extend_windows = (capacity,) if on_cpu else shapes.extend_windows(windows)
        self.decode_windows = (capacity,) if on_cpu else ends

        drafting = any(map(self.drafts_of, self.decode_rows))

        def make_state() -> SlotState:
            cache = init_cache(self.config, self.slots, parts, self.cache_dtype, stacked=self.scan_layers, width=width)
            token, position, count = jnp.zeros((3, self.slots), jnp.int32)
            text = jnp.zeros((self.slots, self.decode_windows[-1]), jnp.int32) if drafting else None
            return SlotState(cache, token, jnp.zeros(self.slots, bool), position, count, text)

        self._abstract_cache: KVCache = jax.eval_shape(make_state).cache
        self.state_layout: SlotState | None = None
        if mesh is not None:
            caches = cache_shardings(self._abstract_cache, mesh, self.rules)
            by_slot: Any = host_sharding if on_shards is None else on_shards.layout
            self.state_layout = SlotState(caches, by_slot, by_slot, by_slot, by_slot, by_slot if drafting else None)
        self._make_state = jax.jit(make_state, out_shardings=self.state_layout)
        in_c = not self.scan_layers and steps_in_c(model_config, mesh, self.dtype, self.param_dtype)
        self.weights = Weights(model_config, self.param_dtype, mesh, self.rules, self.scan_layers, in_c)
        heads = model_config.n_heads, model_config.n_kv_heads, model_config.head_dim
        c_attends = in_c and self.cache_dtype == jnp.float32 and native.attends(*heads, len(parts))
        self.programs: Programs = make_programs(
            model_config,
            self.dtype.name,
            self.param_dtype.name,
            self.state_layout,
            host_sharding if on_shards is None else on_shards.layout,
            host_sharding,
            tpu,
            on_cpu,
            ExpertMesh.of(model_config, mesh, self.rules),
            on_shards,
            self.scan_layers,
            c_attends,
        )

    @property
    def compiled_layers(self) -> int:
        """Layers that a program has, where it does not go through the same ones again."""
        return self.config.period if self.scan_layers else self.config.n_layers

    def drafts_of(self, rows: int) -> int:
        """Drafts that a step of so many rows of a shard may check for each."""
        return 0 if self._speculation is None else self._speculation.drafts_of(rows)

    def by_kernel(self, queries: int, whole: bool) -> bool:
        """Whether a kernel attends to the cache for so many queries of each slot, of all slots (`whole`) or of some;
        else the plain path does."""
        query = jax.ShapeDtypeStruct((self.slots, queries, self.config.n_heads, self._keys.shape[3]), self.dtype)
        return self._tpu is not None and self._tpu.serves(query, self._keys, whole and self.scan_layers)

    def new_state(self) -> SlotState:
        """Slots with empty caches [slots, K, C, head_dim] a layer, laid out for this engine's mesh; on TPU C in whole
        blocks."""
        return self._make_state()

    def readable(self, *rows: jax.Array) -> tuple[jax.Array, ...]:
        """Arrays of rows as this process can read them: where others have devices of the mesh, whole on each one."""
        if self.mesh is None or not spans_processes(self.mesh):
            return rows
        whole: tuple[jax.Array, ...] = reshard(rows, (replicated(self.mesh),) * len(rows))
        return whole

    @functools.cached_property
    def allowed(self) -> jax.Array | None:
        """`drawable` on the device: on a mesh whole on each one."""
        if self.drawable is None or self.mesh is None:
            return None if self.drawable is None else jnp.asarray(self.drawable)
        mask = self.drawable
        return jax.make_array_from_callback(mask.shape, replicated(self.mesh), lambda index: mask[index])

    def place(self, params: Any) -> Any:
        """The parameters laid out and cast (to int8: quantized) for decoding, on the device, with their layers stacked
        where programs scan over them; as they are where nothing changes."""
        return self.weights.place(params)

    def fit(self, lengths: Iterable[int], each: float | None = None) -> None:
        """Chooses the lengths that `extend` is compiled for by the token counts of extends to expect (prompts,
        instructions): once, and not where the engine was given some. `each`: how many extends one of them stands for,
        where it is known: where there are few, padding them costs less than to compile another length."""
        if not self._fit_lengths:
            return
        most = 8 if len(self.extend_windows) == 1 else 4  # each length has a program for each window
        worth = 0.0 if each is None else shapes.LENGTH_TOKENS / each
        fitted = shapes.fit_length_buckets(lengths, most, self._multiple, worth=worth)
        if fitted:
            self.extend_lengths, self._fit_lengths = fitted, False

    def compilations(self, params: Any, lengths: Iterable[int] = (), n_stops: int = 0) -> list[Callable[[], None]]:
        """Jobs that each compile one program; when all have been called, a run compiles nothing.

        Args:
          params: the parameters, or others of the same shapes and layout.
          lengths: see `fit`.
          n_stops: stop ids of a request at most.
        """
        self.fit(lengths)
        self.n_stops, self.prepared = max(self.n_stops, -(-n_stops // 4) * 4), True
        dispatcher = Dispatcher(self.programs, self.place(params), state := self.new_state(), self.allowed)
        jobs: list[Callable[[], None]] = [
            functools.partial(
                dispatcher.prepare_decode, state, self.shards * rows, self.n_stops, window, self.decode_steps, drafts
            )
            for rows, window, drafts in self._decodes()
        ]
        jobs.append(functools.partial(dispatcher.prepare_fork, state, self.shards * self.extend_rows[0]))
        for rows, length, window in self._extends():
            shape = (
                self.shards * rows,
                self.is_whole(rows, length),
                self.n_stops,
                length,
                window,
                self.at_once(rows, length),
            )
            jobs.append(functools.partial(dispatcher.prepare_extend, state, *shape))
        return jobs

    @property
    def n_programs(self) -> int:
        """How many `compilations` there are, for the lengths chosen so far."""
        return len(self._decodes()) + 1 + len(self._extends())

    def _decodes(self) -> list[tuple[int, int, int]]:
        """Rows of a shard, window and drafts of each program that decodes; where drafts are always checked, none does
        without."""
        always = self._speculation is not None and self._speculation.always
        return [
            (rows, window, drafts)
            for rows in self.decode_rows
            for window in self.decode_windows
            for drafts in sorted({self.drafts_of(rows)} | (set() if always else {0}))
        ]

    def _extends(self) -> list[tuple[int, int, int]]:
        """Rows of a shard, length and window of each `extend`."""
        return [
            (rows, length, window)
            for shorter, length in zip((0, *self.extend_lengths), self.extend_lengths, strict=False)
            for rows in self.rows_of(length)
            for window in self.extend_windows
            if window > shorter  # what goes into this bucket is longer than the bucket before
        ]

    def rows_of(self, length: int) -> tuple[int, ...]:
        """Rows of a shard that an extend of this length is compiled for."""
        if self.shards > 1 and self._fitted_rows:
            together, most = self._together(length), min(self.slots // self.shards, shapes.ROWS_OF_A_SHARD)
            return (-(-most // together) * together,)
        rows = [r for r in self.extend_rows if r * length <= self.extend_tokens] or [self.extend_rows[0]]
        if self._fitted_rows:
            fewest = shapes.rows_together(length, rows[0], self._on_cpu)
            rows = [fewest] if length > self._alone_from else [fewest, *rows]
        return tuple(sorted(set(rows)))

    def at_once(self, rows: int, length: int) -> int:
        """Those of all shards' rows, so many a shard, that an extend of this length computes side by side."""
        return self.shards * (self._together(length) if self.shards > 1 and self._fitted_rows else rows)

    def _together(self, length: int) -> int:
        """Rows of one shard that are computed side by side."""
        return shapes.rows_of_a_shard(length, self.slots // self.shards, self._on_cpu)

    def is_whole(self, rows: int, length: int) -> bool:
        """Whether an extend of so many rows a shard has the slots themselves as its rows."""
        return self.at_once(rows, length) == self.slots

    def run(
        self,
        params: Any,
        chains: Iterable[Chain],
        *,
        on_done: Callable[[Chain], None] | None = None,
        progress: Progress | None = None,
        safe_point: Callable[[], None] = lambda: None,
    ) -> EngineStats:
        """Runs every chain to its end, `slots` at a time, pulled from the iterable a little before slots become free.

        A request that cannot be run (empty or too long a prompt, unusable settings) gives its chain a Completion of
        finish "error" that names the row; the others go on. `on_done` is called once for each chain, in the order
        in which they end, and `progress` after each dispatch, both while the device computes the next one.
        `safe_point` is called between dispatches: what it raises ends the run, with the ended chains handed on.

        On a mesh over several processes every one calls it, with equal chains; HostError names one that did not.
        """
        if hosts.is_active() and spans_processes(self.mesh):
            hosts.barrier("sampling")
        begin = time.perf_counter()
        compiles, compile_seconds = self.programs.count, self.programs.seconds
        scheduler = Scheduler(self, self.place(params), iter(chains), on_done or (lambda _: None))
        stats = scheduler.stats

        def meanwhile() -> None:
            stats.compiles = self.programs.count - compiles
            stats.compile_seconds = self.programs.seconds - compile_seconds
            stats.seconds = time.perf_counter() - begin
            if progress is not None:
                progress(stats)

        try:
            while scheduler.step(meanwhile):
                safe_point()
        finally:
            scheduler.flush()
        return stats

    def floor(self, stats: EngineStats) -> dict[str, float]:
        """The mean decode step of a run beside what it had to compute and read (see `decode_floor`)."""
        cache = self._abstract_cache
        devices = [jax.devices()[0]] if self.mesh is None else self.mesh.devices.flatten().tolist()
        return decode_floor(
            self.config,
            stats,
            devices,
            self.dtype.name,
            weight_bytes=tree_bytes(abstract_params(self.config, self.param_dtype)),
            position_bytes=tree_bytes(cache) / (self.slots * cache.length),
            copies=len(devices) // (1 if self.mesh is None else self.mesh.shape["tensor"]),
        )

    def generate(
        self, params: Any, requests: Iterable[Request], *, progress: Progress | None = None
    ) -> list[Completion]:
        """The completion of each request, in their order."""
        ones = [Single(str(i), request) for i, request in enumerate(requests)]
        self.run(params, ones, progress=progress)
        return [one.completion for one in ones if one.completion is not None]
