"""The host side of sampling: a fixed number of slots, refilled at once, each keeping its cache along a chain."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from selfevo_jax.errors import ConfigError
from selfevo_jax.model import CACHE_AXES, LANES, ModelConfig, TpuAttention, init_cache, param_shardings
from selfevo_jax.sample.decode import Dispatcher, Programs, make_programs
from selfevo_jax.sample.request import Chain, Completion, Request
from selfevo_jax.sample.schedule import Scheduler
from selfevo_jax.sample.shapes import cache_windows, few_rows, fit_length_buckets, length_buckets
from selfevo_jax.sample.stops import Stream, TextTokenizer
from selfevo_jax.sharding import DECODE_RULES, ShardingRules, reshard

Progress = Callable[["EngineStats"], None]


@dataclass(frozen=True)
class EngineStats:
    """What a run has cost so far."""

    chains: int = 0
    """Chains that have ended."""
    requests: int = 0
    failed: int = 0
    """Requests with a completion of finish "error"."""
    prefilled: int = 0
    """Prompt tokens computed (padding not counted)."""
    shared: int = 0
    """Prompt tokens copied from another slot's cache (samples of one prompt, a common system prompt)."""
    lower_bound: int = 0
    """Prompt tokens that had to be computed: those in no earlier text of their own chain."""
    decoded: int = 0
    """Tokens drawn, stop ids included."""
    steps: int = 0
    """Decode steps run on the device."""
    busy: int = 0
    """Tokens drawn in those steps; one a slot and step at most."""
    occupancy: float = 0.0
    """busy / (slots * steps)."""
    compiles: int = 0
    """Programs compiled during this run."""
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens drawn per second of the whole run, prefilling and compiling included."""
        return self.decoded / self.seconds if self.seconds > 0 else 0.0


@dataclass
class _One:
    """The chain of a single request."""

    id: str
    request: Request
    completion: Completion | None = None

    def next(self, last: Completion | None) -> Request | None:
        self.completion = last
        return self.request if last is None else None


class Engine:
    """Samples from one model shape. Programs are compiled once an engine; parameters are passed with each run.

    Args:
      model_config: the decoder's shape.
      tokenizer: turns tokens into text; its vocabulary may be smaller than the model's.
      slots: texts decoded side by side; on a mesh rounded up to a multiple of data * fsdp.
      cache_length: C, tokens a slot can hold (prompt and completion); at most the model's max_position.
      seed: enters every draw.
      mesh, rules: where to run; slots lie over data and fsdp, parameters and kv heads over tensor.
      dtype: of compute and cache. Results are independent of slots, order and mesh in float32 only: in bfloat16 the
        rounding depends on the shape of the batch.
      extend_rows, extend_lengths: shapes of `extend`; each pair that occurs is one compilation. Without lengths,
        `prepare` fits them to the data.
      decode_steps: steps of one dispatch at most; text_steps: the same where a request has stop strings, which the
        host looks for between dispatches.
      extend_tokens: tokens of one extend at most, padding included (bounds its memory).

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
        extend_rows: Sequence[int] | None = None,
        extend_lengths: Sequence[int] | None = None,
        decode_steps: int = 32,
        text_steps: int = 8,
        extend_tokens: int = 4096,
        stream: Callable[[Any], Stream] | None = None,
    ) -> None:
        if slots < 1:
            raise ConfigError(f"slots is {slots}; expected at least 1")
        if not 1 < cache_length <= model_config.max_position:
            raise ConfigError(
                f"cache_length is {cache_length}; expected 2 to {model_config.max_position}, the longest text "
                "of this model (max_position)"
            )
        self.config, self.tokenizer, self.seed = model_config, tokenizer, seed
        self.mesh, self.rules = mesh, rules if rules is not None else DECODE_RULES
        self.cache_length, self.dtype = cache_length, jnp.dtype(dtype)
        self.decode_steps, self.text_steps, self.extend_tokens = decode_steps, text_steps, extend_tokens
        if stream is None:
            from selfevo_jax.text import StreamDecoder

            stream = StreamDecoder
        self.new_stream = functools.partial(stream, tokenizer)
        self._cache_sharding: NamedSharding | None = None
        rows_sharding: NamedSharding | None = None
        host_sharding: NamedSharding | None = None
        if mesh is not None:
            axes = self.rules.mesh_axes("batch")
            ways = int(np.prod([mesh.shape[a] for a in axes], dtype=np.int64))
            slots = -(-slots // ways) * ways
            shape = (slots, model_config.n_kv_heads, cache_length, model_config.head_dim)
            self._cache_sharding = NamedSharding(mesh, self.rules.spec(CACHE_AXES, shape, mesh))
            rows_sharding = NamedSharding(mesh, PartitionSpec(axes))
            host_sharding = NamedSharding(mesh, PartitionSpec())
        self.slots = slots
        alone = mesh is None or mesh.size == 1  # gathering slots across devices would cost more than it saves
        few = few_rows(slots)
        rows = sorted({min(r, slots) for r in extend_rows or (few,)})
        self.extend_rows = tuple(rows) if alone else (slots,)
        self.shares = alone
        self.decode_rows = (few, slots) if alone and 8 <= few < slots else (slots,)
        self.extend_lengths = tuple(sorted(extend_lengths or length_buckets(cache_length)))
        self._fit_lengths = extend_lengths is None
        self.n_stops, self.prepared = 4, False
        tpu = TpuAttention.choose(model_config, mesh, self.rules)
        multiple, capacity = 64, cache_length
        if tpu is not None:
            multiple, capacity = LANES, -(-cache_length // LANES) * LANES
        self.decode_windows = cache_windows(capacity, multiple)
        self.extend_windows = (capacity,) if capacity <= 1024 else self.decode_windows

        def make_cache() -> Any:
            return init_cache(self.config, self.slots, capacity, self.dtype)

        query = jax.ShapeDtypeStruct((slots, 1, model_config.n_heads, model_config.head_dim), self.dtype)
        if tpu is not None and tpu.serves(query, jax.eval_shape(make_cache).k[0]):
            self.decode_windows = (capacity,)  # that kernel reads no more than a slot holds
        layout = None
        if self._cache_sharding is not None:
            layout = jax.tree.map(lambda _: self._cache_sharding, jax.eval_shape(make_cache))
        self._make_cache = jax.jit(make_cache, out_shardings=layout)
        self.programs: Programs = make_programs(
            model_config, self.dtype.name, self._cache_sharding, rows_sharding, host_sharding, tpu
        )

    def new_cache(self) -> Any:
        """An empty cache [slots, K, C, head_dim] a layer, laid out for this engine's mesh; on TPU C in whole blocks."""

        return self._make_cache()

    def place(self, params: Any) -> Any:
        """The parameters laid out and cast for decoding, on the device; as they are where nothing changes."""
        wanted = None if self.mesh is None else param_shardings(self.config, self.mesh, self.rules)
        leaves = jax.tree.leaves(params)
        same_dtype = all(isinstance(x, jax.Array) and x.dtype == self.dtype for x in leaves)
        if wanted is None:
            return params if same_dtype else jax.tree.map(lambda x: jnp.asarray(x, self.dtype), params)
        if same_dtype and all(
            x.sharding.is_equivalent_to(s, x.ndim) for x, s in zip(leaves, jax.tree.leaves(wanted), strict=True)
        ):
            return params
        return reshard(params, wanted, self.dtype)

    def compilations(self, params: Any, lengths: Iterable[int] = (), n_stops: int = 0) -> list[Callable[[], None]]:
        """Jobs that each compile one program; when all have been called, a run compiles nothing.

        Args:
          params: the parameters, or others of the same shapes and layout.
          lengths: token counts of extends to expect (prompts, instructions); at the first call they choose the lengths
            that `extend` is compiled for, unless the engine was given some.
          n_stops: stop ids of a request at most.
        """
        fitted = fit_length_buckets(lengths) if self._fit_lengths else ()
        if fitted:
            self.extend_lengths, self._fit_lengths = fitted, False
        self.n_stops, self.prepared = max(self.n_stops, -(-n_stops // 4) * 4), True
        dispatcher = Dispatcher(self.programs, self.place(params), cache := self.new_cache())
        jobs: list[Callable[[], None]] = []
        for rows in self.decode_rows:
            shape = (cache, rows, rows == self.slots, self.n_stops)
            jobs += [
                functools.partial(dispatcher.prepare_decode, *shape, window, self.decode_steps)
                for window in self.decode_windows
            ]
        if self.shares:
            jobs.append(functools.partial(dispatcher.prepare_fork, cache, self.extend_rows[0]))
        for rows in self.extend_rows:
            shape, shorter = (cache, rows, rows == self.slots, self.n_stops), 0
            for length in self.extend_lengths:
                if rows * length <= self.extend_tokens or rows == self.extend_rows[0]:
                    jobs += [
                        functools.partial(dispatcher.prepare_extend, *shape, length, window)
                        for window in self.extend_windows
                        if window > shorter  # what goes into this bucket is longer than the bucket before
                    ]
                shorter = length
        return jobs

    def run(
        self,
        params: Any,
        chains: Iterable[Chain],
        *,
        on_done: Callable[[Chain], None] | None = None,
        progress: Progress | None = None,
    ) -> EngineStats:
        """Runs every chain to its end, `slots` at a time, pulled from the iterable as slots become free.

        A request that cannot be run (empty or too long a prompt, unusable settings) gives its chain a Completion of
        finish "error" that names the row; the others go on. `on_done` is called once for each chain, in the order
        in which they end; `progress` after each dispatch.
        """
        begin = time.perf_counter()
        before = self.programs.count
        scheduler = Scheduler(self, self.place(params), iter(chains), on_done or (lambda _: None))

        def stats() -> EngineStats:
            c = scheduler.counts
            return dataclasses.replace(
                EngineStats(**c),
                occupancy=c["busy"] / max(1, self.slots * c["steps"]),
                compiles=self.programs.count - before,
                seconds=time.perf_counter() - begin,
            )

        while scheduler.step():
            if progress is not None:
                progress(stats())
        return stats()

    def generate(
        self, params: Any, requests: Iterable[Request], *, progress: Progress | None = None
    ) -> list[Completion]:
        """The completion of each request, in their order."""
        ones = [_One(id=str(i), request=request) for i, request in enumerate(requests)]
        self.run(params, ones, progress=progress)
        return [one.completion for one in ones if one.completion is not None]
