"""Attention in training, without scores in memory: splash on TPU, cuDNN on GPU, blocks in plain JAX on a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from selfevo_jax.model.attention import Scoring, causal_mask
from selfevo_jax.model.blocked_attention import Blocks, blocked_attention
from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.packed_attention import Packing, cudnn_packed, packed_attention, takes_packed_rows
from selfevo_jax.model.stack import ATTENDED
from selfevo_jax.model.tpu_attention import LANES
from selfevo_jax.model.transformer import Attend
from selfevo_jax.sharding import ShardingRules, on_each_device

_BLOCK = 512  # positions of a block at most; not tuned on a chip
_CUDNN_HEAD_DIM = 128
_WORTH_BLOCKS = 512
PLAIN = "plain"
"""The name of the path without a kernel."""


@dataclass(frozen=True)
class TrainAttention:
    """Causal attention within segments by a kernel; under `shard_map` (rows and heads apart) where one needs it."""

    kernel: Literal["splash", "cudnn", "cudnn_packed", "blocked"]
    mesh: Mesh
    scoring: Scoring
    row_axes: tuple[str, ...] = ()
    head_axes: tuple[str, ...] = ()
    interpret: bool = False
    """Interprets the splash kernel, on any platform and slowly: for tests."""

    @classmethod
    def choices(
        cls, config: ModelConfig, mesh: Mesh, rules: ShardingRules, dtype: Any, length: int
    ) -> list[TrainAttention]:
        """The kernels that the mesh's platform has for such rows, the default first; none where the plain path has to
        do.

        Splash takes bfloat16 rows of a multiple of 128 tokens, and kv heads that divide over their mesh axes; cuDNN
        bfloat16 heads of a multiple of 8, at most 128, and no bounded scores; blocks on a single CPU are worth it from
        512 tokens on. `cudnn_packed`, for heads that divide on newer GPUs, has not been measured.
        """
        scoring, device = Scoring.of(config), mesh.devices.flat[0]
        rows, heads = rules.mesh_axes("batch"), rules.mesh_axes("kv_heads")
        if device.platform == "cpu" and mesh.size == 1 and length >= _WORTH_BLOCKS and length % LANES == 0:
            return [cls("blocked", mesh, scoring)]
        if jnp.dtype(dtype) != jnp.bfloat16:
            return []
        divides = config.n_kv_heads % rules.ways("kv_heads", mesh) == 0
        if device.platform == "tpu" and length % LANES == 0 and divides:
            return [cls("splash", mesh, scoring, rows, heads)]
        fits = config.head_dim % 8 == 0 and config.head_dim <= _CUDNN_HEAD_DIM and scoring.softcap is None
        if device.platform != "gpu" or not fits:
            return []
        masked = cls("cudnn", mesh, scoring, rows, heads)
        return [masked, replace(masked, kernel="cudnn_packed")] if divides and takes_packed_rows(device) else [masked]

    @classmethod
    def choose(
        cls, config: ModelConfig, mesh: Mesh, rules: ShardingRules, dtype: Any, length: int, named: str | None = None
    ) -> TrainAttention | None:
        """The default of `choices`, or the one that is named; None for the plain path. Raises KeyError for a name that
        is not among them."""
        kernels: dict[str, TrainAttention | None] = {
            one.kernel: one for one in cls.choices(config, mesh, rules, dtype, length)
        }
        kernels[PLAIN] = None
        return next(iter(kernels.values())) if named is None else kernels[named]

    def within(self, segment_ids: jax.Array, window: int | None = None) -> Attend:
        """Attention of rows with these `segment_ids [B, L]` to their last `window` tokens (None: all); padding attends
        to padding, and means nothing."""

        packing = Packing.of(segment_ids) if self.kernel == "cudnn_packed" else None

        def attended(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            if self.kernel == "blocked":
                block = 256 if segment_ids.shape[1] % 256 == 0 else LANES
                return blocked_attention(q, k, v, segment_ids, Blocks(window, block, self.scoring))
            if self.kernel == "splash":
                return self._splash(q, k, v, segment_ids, window)
            if packing is not None:
                return self._packed(q, k, v, segment_ids, packing, window)
            return self._masked(q, k, v, segment_ids, window)

        return lambda q, k, v: (attended(q, k, v), None)

    def _masked(
        self, q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, window: int | None
    ) -> jax.Array:
        mask = causal_mask(segment_ids, segment_ids.shape[1], window)[:, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask, scale=self.scoring.scale, implementation="cudnn")

    def _packed(
        self, q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, packing: Packing, window: int | None
    ) -> jax.Array:
        by_offsets = functools.partial(cudnn_packed, scale=self.scoring.scale, window=window)

        def local(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, packing: Packing) -> jax.Array:
            by_mask = functools.partial(self._masked, segment_ids=segments, window=window)
            return packed_attention(q, k, v, packing, by_mask, by_offsets)

        return self._on_each_device(local, q, k, v, segment_ids, packing)

    def _on_each_device(
        self, local: Callable[..., jax.Array], q: jax.Array, k: jax.Array, v: jax.Array, *of_rows: Any
    ) -> jax.Array:
        states, rows = PartitionSpec(self.row_axes, None, self.head_axes), PartitionSpec(self.row_axes)
        given = (states, states, states, *(rows for _ in of_rows))
        out: jax.Array = on_each_device(local, self.mesh, given, states)(q, k, v, *of_rows)
        return out

    def _splash(
        self, q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array, window: int | None
    ) -> jax.Array:
        # imported here: Pallas takes 0.3 s, and only a TPU needs it
        from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

        ways = math.prod(self.mesh.shape[axis] for axis in self.head_axes)
        kernel = self._kernel(q.shape[2] // ways, q.shape[1], window)

        def local(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
            scaled = (q.astype(jnp.float32) * self.scoring.scale).astype(q.dtype)
            heads_first = (x.swapaxes(1, 2) for x in (scaled, k, v))
            out: jax.Array = jax.vmap(kernel)(*heads_first, SegmentIds(segments, segments))
            return out.swapaxes(1, 2)

        return self._on_each_device(local, q, k, v, segment_ids)

    def _kernel(self, heads: int, length: int, window: int | None) -> Any:
        from jax.experimental.pallas.ops.tpu.splash_attention import (
            BlockSizes,
            CausalMask,
            LocalMask,
            MultiHeadMask,
            make_splash_mha,
        )

        block = max(n for n in range(LANES, min(length, _BLOCK) + 1, LANES) if length % n == 0)
        names = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute")
        sizes: Any = dict.fromkeys(names, block)
        shape = (length, length)
        # the local mask sees both ways unless told; with the causal one this is `causal_mask`
        one: Any = CausalMask(shape) if window is None else LocalMask(shape, (window - 1, 0), 0)
        with jax.ensure_compile_time_eval():  # the kernel's tables of blocks are constants, whatever traces this
            return make_splash_mha(
                mask=MultiHeadMask([one] * heads),
                block_sizes=BlockSizes(**sizes, use_fused_bwd_kernel=True),
                head_shards=1,
                q_seq_shards=1,
                residual_checkpoint_name=ATTENDED,
                attn_logits_soft_cap=self.scoring.softcap,
                interpret=self.interpret,
            )
