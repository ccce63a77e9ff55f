"""How many slots fit: bytes of a slot, of the parameters and of a call's temporaries, against a device's memory."""

from __future__ import annotations

import bisect
import functools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from selfevo_jax.errors import ConfigError
from selfevo_jax.model import (
    LANES,
    ModelConfig,
    TpuAttention,
    abstract_params,
    cache_shardings,
    init_cache,
    param_shardings,
)
from selfevo_jax.model.int8 import is_int8
from selfevo_jax.native import calls as native
from selfevo_jax.sample.shapes import (
    EXTEND_TOKENS,
    LONGEST_EXTEND,
    decode_rows,
    extend_rows,
    rows_of_a_shard,
)
from selfevo_jax.sample.speculation import Speculation
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, ShardingRules

SAFETY = 0.9
"""The share of the available memory that is planned with; the rest is for the runtime and what fragments."""
MOST_SLOTS, MOST_SLOTS_CPU = 512, 32
"""Slots chosen at most: a CPU is bound by arithmetic from 16 to 32 on, accelerators from a few hundred on."""
LOGIT_COPIES = 6
"""What drawing a token takes at a time: logits, filtered, sorted, cumulated, noise (measured, see `temporaries`)."""
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def gib(n: float) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 / 10 else f"{n / 2**20:.1f} MiB"


def tree_bytes(shapes: Any) -> int:
    """Bytes of a tree of arrays or of their shapes, over all devices and once."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))


def device_bytes(shapes: Any, layout: Any) -> int:
    """Bytes on one device of a tree of shapes that lies by a tree of shardings."""
    sizes = jax.tree.map(lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, shapes, layout)
    return sum(jax.tree.leaves(sizes))


def host_bytes(meminfo: str | Path | None = "/proc/meminfo", limits: Sequence[str | Path] = _LIMITS) -> int:
    """Memory of this host that can still be had: MemAvailable (for None, or without the file, all there is), at most a
    cgroup's limit."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if meminfo is not None and Path(meminfo).exists():
        fields = dict(line.split(":") for line in Path(meminfo).read_text().splitlines())
        found = [1024 * int(fields["MemAvailable"].split()[0])]
    texts = [Path(limit).read_text().strip() for limit in limits if Path(limit).exists()]
    return min(found + [int(text) for text in texts if text.isdigit()])


def available_bytes(mesh: Mesh) -> int:
    """Memory of a device of the mesh: its own limit where the platform tells it, else its share of the host's."""
    here = mesh.local_devices
    stats = here[0].memory_stats() or {}
    return int(stats["bytes_limit"]) if "bytes_limit" in stats else host_bytes() // len(here)


def reads_by_kernel(
    config: ModelConfig, mesh: Mesh | None, rules: ShardingRules, cache_length: int, dtype: Any, cache_dtype: Any
) -> bool:
    """Whether a decode step reads the cache by a kernel, as far as each slot is filled."""
    tpu, width = TpuAttention.choose(config, mesh, rules), kernel_width(config)
    query = jax.ShapeDtypeStruct((1, 1, config.n_heads, width), dtype)
    capacity = -(-cache_length // LANES) * LANES
    keys = jax.ShapeDtypeStruct((1, config.n_kv_heads, capacity, width), cache_dtype)
    return tpu is not None and tpu.serves(query, keys)


def steps_in_c(config: ModelConfig, mesh: Mesh | None, dtype: Any, param_dtype: Any, memory: int | None = None) -> bool:
    """Whether a CPU's products are made in C (`native`), of a copy of the parameters in another layout: where that one
    and two in fp32 take half of the machine's memory at most. `memory`: of the machine in bytes; None asks it."""
    if not native.serves(mesh, dtype, param_dtype):
        return False
    total = host_bytes(meminfo=None) if memory is None else memory
    return 2 * 3 * tree_bytes(abstract_params(config)) <= total


def kernel_width(config: ModelConfig) -> int:
    """Numbers of a head and position in a cache that the kernel reads: head_dim, filled up to whole lanes where that is
    no more than twice as many. A TPU pads them anyway to write one position; left to its compiler, each program copies
    the whole cache into that layout and back."""
    whole = -(-config.head_dim // LANES) * LANES
    return whole if whole <= 2 * config.head_dim else config.head_dim


def released_while_sampling(mesh: Mesh) -> bool:
    """Whether a run keeps fp32 parameters off the devices while it samples: not where their memory is the host's."""
    return mesh.devices.flat[0].platform != "cpu"


@dataclass(frozen=True)
class SlotPlan:
    """A number of slots and how it came about."""

    slots: int
    fits: int
    """Slots that fit at most."""
    available: int
    """Bytes of a device."""
    why: str = ""

    def __str__(self) -> str:
        return f"slots: {self.slots} (of {self.fits} that fit in {gib(self.available)}{self.why})"


@dataclass(frozen=True)
class SamplerMemory:
    """Bytes that decoding needs on one device of a mesh. Dtypes as the engine's, none left out."""

    config: ModelConfig
    cache_length: int
    dtype: Any
    param_dtype: Any
    cache_dtype: Any
    mesh: Mesh
    rules: ShardingRules = DECODE_RULES
    train_mesh: Mesh | None = None
    """Where the fp32 parameters lie; None: on the same mesh."""
    speculation: Speculation | None = None
    """Drafts that decode steps check."""

    @property
    def ways(self) -> int:
        """Devices that the slots lie over."""
        return self.rules.ways("batch", self.mesh)

    @functools.cached_property
    def slot(self) -> int:
        """The cache of one slot, scales included; over `tensor` its heads are split."""
        width = kernel_width(self.config) if self.by_kernel else None
        cache = jax.eval_shape(
            lambda: init_cache(self.config, self.ways, self.cache_length, self.cache_dtype, width=width)
        )
        return device_bytes(cache, cache_shardings(cache, self.mesh, self.rules))

    def params(self, param_dtype: Any, rules: ShardingRules, mesh: Mesh | None = None) -> int:
        """A whole tree of parameters."""
        layout = param_shardings(self.config, mesh or self.mesh, rules, param_dtype)
        return device_bytes(abstract_params(self.config, param_dtype), layout)

    @functools.cached_property
    def parameters(self) -> int:
        """All that is held while sampling: the parameters placed for decoding; on a CPU also M_0 and the newest
        checkpoint in fp32, laid out for training, of which the placed ones may be one."""
        return self.params(self.param_dtype, self.rules) if self._released else self.masters + self._placed

    @functools.cached_property
    def masters(self) -> int:
        """fp32 parameters that are on the devices at a time: the checkpoint that is placed, on a CPU M_0 too."""
        return (1 if self._released else 2) * self.params(np.float32, TRAIN_RULES, self.train_mesh or self.mesh)

    @property
    def _released(self) -> bool:
        return released_while_sampling(self.mesh)

    @property
    def held(self) -> int:
        """Of `parameters`, what is beside those that decoding reads."""
        return self.parameters - self.params(self.param_dtype, self.rules)

    @functools.cached_property
    def _placed(self) -> int:
        """Parameters for decoding that are others than those for training."""
        train_mesh = self.train_mesh or self.mesh
        same = train_mesh.shape["tensor"] == self.mesh.shape["tensor"] and train_mesh.shape["fsdp"] == 1
        same = same and not steps_in_c(self.config, self.mesh, self.dtype, self.param_dtype)
        return 0 if self.param_dtype == np.float32 and same else self.params(self.param_dtype, self.rules)

    def temporaries(self, slots: int) -> int:
        """What a call needs at most besides its arguments, for so many slots on this device: an estimate.

        A decode has the logits in several copies, once more for each draft, and one layer of an int8 cache widened;
        that of fewer rows works on a copy of their caches. An extend has the scores of all its tokens twice (before and
        after the softmax), the feed-forward's states twice, and a copy of one layer of its rows' caches; on several
        shards of the slots it has few rows at a time.

        `compiled.memory_analysis()` for 4 layers of SmolLM2-135M, 32 slots of 768 tokens, fp32, on a CPU: decode 36 MiB
        (six times the logits), of 16 rows 90 (72 the copy), extend of 8 x 512 tokens 171 (a CPU has the scores of a
        quarter of the positions at a time). XLA on a CPU widens all int8 matrices of a call at once (168 MiB more
        here); for a TPU it does not.
        """
        c, tensor, on_cpu = self.config, self.mesh.shape["tensor"], self.mesh.devices.flat[0].platform == "cpu"
        heads, kv_heads, width = (n // tensor if n % tensor == 0 else n for n in (c.n_heads, c.n_kv_heads, c.d_ff))
        if c.n_experts:  # each device has all its tokens once for each expert that they take, its own or not
            width = c.experts_per_token * (c.d_ff + c.d_model)
        size = np.dtype(self.dtype).itemsize
        fewer = (-(-rows // self.ways) for rows in decode_rows(slots * self.ways, self.by_kernel))
        copied = max((rows for rows in fewer if rows < slots), default=0)
        drafts = 0 if self.speculation is None else self.speculation.drafts_of(slots)
        decode = copied * self.slot + (LOGIT_COPIES + drafts) * slots * c.vocab_size * 4
        if is_int8(self.cache_dtype):
            decode += 2 * slots * kv_heads * self.cache_length * c.head_dim * size
        longest = min(LONGEST_EXTEND, self.cache_length)
        if self.ways == 1:
            rows, tokens = extend_rows(slots), max(EXTEND_TOKENS, extend_rows(slots) * longest)
        else:
            together = {length: rows_of_a_shard(length, slots, on_cpu) for length in (*range(8, longest, 8), longest)}
            rows, tokens = max(together.values()), max(rows * length for length, rows in together.items())
        extend = rows * self.slot // c.n_layers + 2 * tokens * (heads * self.cache_length * 4 + width * size)
        return max(decode, extend) + (self._widened if on_cpu else 0)

    @functools.cached_property
    def by_kernel(self) -> bool:
        """Whether a kernel reads the cache for each token."""
        return reads_by_kernel(self.config, self.mesh, self.rules, self.cache_length, self.dtype, self.cache_dtype)

    @functools.cached_property
    def _widened(self) -> int:
        return self.params(self.dtype, self.rules) if is_int8(self.param_dtype) else 0

    def needed(self, slots: int) -> int:
        """Everything, for so many slots on this device: while sampling, or while parameters are placed before it."""
        sampling = self.parameters + slots * self.slot + self.temporaries(slots)
        return max(sampling, self.masters + self._placed)

    def _remedies(self, usable: int) -> str:
        """What can help where too little fits into so many bytes: other slots only where the parameters leave room."""
        found = []
        if self.parameters + self.slot < usable:
            found += ["fewer slots", "a shorter sampling.cache_length"]
            found += [] if is_int8(self.cache_dtype) else ["sampling.cache_dtype=int8"]
        if self.masters < usable:
            tensor = self.mesh.shape["tensor"]
            found += [] if is_int8(self.param_dtype) else ["sampling.param_dtype=int8"]
            found += [f"sampling.tensor={2 * tensor}"] if tensor < self.mesh.size else []
        alone = "the parameters" if self._released else "M_0 and the newest checkpoint"
        return ", or ".join(found) or (
            f"more devices: {alone} in float32 alone take {gib(self.masters)} of each of these"
        )

    def plan(self, wanted: int | None, chains: int, available: int | None = None) -> SlotPlan:
        """The slots wanted, or for None as many as fit, help (MOST_SLOTS, CAPS) and have a chain to run.

        Raises ConfigError when not one slot a device fits, or not the number wanted.
        """
        platform, ways = self.mesh.devices.flat[0].platform, self.ways
        memory = available_bytes(self.mesh) if available is None else available
        usable = int(SAFETY * memory)
        most = max(0, usable // self.slot)
        fits = bisect.bisect_right(range(1, most + 1), usable, key=self.needed) * ways
        asked = ways if wanted is None else -(-wanted // ways) * ways
        if asked > fits:
            raise ConfigError(
                f"sampling.slots: {asked} slots need {gib(self.needed(asked // ways))} on each device (a slot's cache "
                f"{gib(self.slot)}, parameters {gib(self.parameters)}, the rest temporaries), and {gib(usable)} of "
                f"{gib(memory)} can be used; {fits} fit. Take {self._remedies(usable)}"
            )
        if wanted is not None:
            return SlotPlan(asked, fits, memory)
        cap = MOST_SLOTS_CPU if platform == "cpu" else MOST_SLOTS
        why = f"; more than {cap} do not help on a {platform}" if cap <= min(fits, chains) else ""
        why = "; one for each chain" if chains < min(fits, cap) else why
        return SlotPlan(max(ways, min(fits, -(-min(cap, chains) // ways) * ways)), fits, memory, why)
