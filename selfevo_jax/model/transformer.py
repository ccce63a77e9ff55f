"""The decoder, as a purely functional Linen module: parameters and cache go in, logits and cache come out."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from selfevo_jax.model.attention import (
    apply_rotary,
    attend,
    cache_mask,
    causal_mask,
    rope_frequencies,
    rotary,
    silu,
)
from selfevo_jax.model.cache import KVCache, write
from selfevo_jax.model.config import ModelConfig
from selfevo_jax.model.tpu_attention import TpuAttention

_kernel = nn.initializers.normal(0.02)


class RMSNorm(nn.Module):
    """Root-mean-square norm in fp32 (arXiv 1910.07467)."""

    eps: float
    axis: str | None
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale: Any = self.param(
            "scale",
            nn.with_logical_partitioning(nn.initializers.ones, (self.axis,)),
            (x.shape[-1],),
            self.param_dtype,
        )
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return (wide * scale).astype(self.dtype)


class Linear(nn.Module):
    """A matrix product over the last `inputs` axes, with an optional bias."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    dtype: Any
    param_dtype: Any
    inputs: int = 1
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel: Any = self.param(
            "kernel", nn.with_logical_partitioning(_kernel, self.axes), self.shape, self.param_dtype
        )
        # one plain matrix product: with two batch axes XLA's CPU compiler makes a transposed copy of the output's
        # gradient for each weight gradient, which doubles the time of the feed-forward's backward pass
        kept = x.shape[: x.ndim - self.inputs]
        width = math.prod(self.shape[: self.inputs])
        y = x.astype(self.dtype).reshape(-1, width) @ kernel.astype(self.dtype).reshape(width, -1)
        y = y.reshape(*kept, *self.shape[self.inputs :])
        if self.bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[self.inputs :])
            bias: Any = self.param("bias", zeros, self.shape[self.inputs :], self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions and an optional cache."""

    config: ModelConfig
    dtype: Any
    param_dtype: Any
    tpu: TpuAttention | None

    def setup(self) -> None:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.q = Linear((c.d_model, c.n_heads, c.head_dim), ("embed", "heads", None), bias=c.qkv_bias, **kinds)
        self.k = Linear((c.d_model, c.n_kv_heads, c.head_dim), ("embed", "kv_heads", None), bias=c.qkv_bias, **kinds)
        self.v = Linear((c.d_model, c.n_kv_heads, c.head_dim), ("embed", "kv_heads", None), bias=c.qkv_bias, **kinds)
        self.o = Linear((c.n_heads, c.head_dim, c.d_model), ("heads", None, "embed"), inputs=2, **kinds)
        if c.qk_norm:
            self.q_norm = RMSNorm(c.norm_eps, None, **kinds)
            self.k_norm = RMSNorm(c.norm_eps, None, **kinds)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        rope: tuple[jax.Array, jax.Array],
        mask: jax.Array,
        cached: tuple[jax.Array, jax.Array] | None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = apply_rotary(q, *rope), apply_rotary(k, *rope)
        if cached is not None:
            cached = k, v = write(cached[0], k, positions), write(cached[1], v, positions)
            if self.tpu is not None and self.tpu.serves(q, k):
                return self.o(self.tpu.attend(q, k, v, positions)), cached
        else:
            k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
        return self.o(attend(q, k.astype(self.dtype), v.astype(self.dtype), mask)), cached


class FeedForward(nn.Module):
    """Gated feed-forward (SwiGLU or GeGLU, arXiv 2002.05202)."""

    config: ModelConfig
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        gate = Linear((c.d_model, c.d_ff), ("embed", "mlp"), name="gate", **kinds)(x)
        up = Linear((c.d_model, c.d_ff), ("embed", "mlp"), name="up", **kinds)(x)
        act = silu(gate) if c.activation == "silu" else jax.nn.gelu(gate, approximate=True)
        return Linear((c.d_ff, c.d_model), ("mlp", "embed"), name="down", **kinds)(act * up)


class Block(nn.Module):
    """One layer: attention and feed-forward, each on a normed residual."""

    config: ModelConfig
    dtype: Any
    param_dtype: Any
    tpu: TpuAttention | None

    def setup(self) -> None:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.attention_norm = RMSNorm(self.config.norm_eps, "embed", **kinds)
        self.attention = Attention(self.config, tpu=self.tpu, **kinds)
        self.mlp_norm = RMSNorm(self.config.norm_eps, "embed", **kinds)
        self.mlp = FeedForward(self.config, **kinds)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        rope: tuple[jax.Array, jax.Array],
        mask: jax.Array,
        cached: tuple[jax.Array, jax.Array] | None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        with jax.named_scope("attention"):
            out, cached = self.attention(self.attention_norm(x), positions, rope, mask, cached)
            x = x + out
        with jax.named_scope("mlp"):
            return x + self.mlp(self.mlp_norm(x)), cached


class Transformer(nn.Module):
    """A causal decoder. Layers are unrolled; compute runs in `dtype`, norms, softmax and logits in fp32."""

    config: ModelConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    tpu: TpuAttention | None = None
    """The kernels that attend to the cache where they serve; None is the plain path."""

    def setup(self) -> None:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.embedding = self.param(
            "embedding",
            nn.with_logical_partitioning(_kernel, ("vocab", "embed")),
            (c.vocab_size, c.d_model),
            self.param_dtype,
        )
        self.layers = [Block(c, tpu=self.tpu, **kinds) for _ in range(c.n_layers)]
        self.final_norm = RMSNorm(c.norm_eps, "embed", **kinds)
        if not c.tie_embeddings:
            self.head = Linear((c.d_model, c.vocab_size), ("embed", "vocab"), **kinds)

    def hidden(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        *,
        cache: KVCache | None = None,
        segment_ids: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """States before the unembedding `[B, L, D]`, and the cache with these tokens in it.

        tokens and positions are integers `[B, L]`; without a cache, `segment_ids [B, L]` keeps packed sequences apart.
        """
        c = self.config
        rope = rotary(positions, rope_frequencies(c))
        if cache is None:
            mask = causal_mask(segment_ids, tokens.shape[1], c.sliding_window)
        else:
            mask = cache_mask(positions, cache.length, c.sliding_window)
        x = jnp.asarray(self.embedding, self.dtype)[tokens]
        keys, values = [], []
        for index, layer in enumerate(self.layers):
            cached = None if cache is None else (cache.k[index], cache.v[index])
            x, cached = layer(x, positions, rope, mask, cached)
            if cached is not None:
                keys.append(cached[0])
                values.append(cached[1])
        return self.final_norm(x), None if cache is None else KVCache(tuple(keys), tuple(values))

    def unembed(self, x: jax.Array) -> jax.Array:
        """fp32 logits `[..., V]` of states `[..., D]`."""
        if self.config.tie_embeddings:
            table = jnp.asarray(self.embedding, self.dtype)
            return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)
        return self.head(x).astype(jnp.float32)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        *,
        cache: KVCache | None = None,
        segment_ids: jax.Array | None = None,
        take: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Logits in fp32, `[B, L, V]`, or `[B, V]` at index `take [B]` of each row; and the cache."""
        x, cache = self.hidden(tokens, positions, cache=cache, segment_ids=segment_ids)
        if take is not None:
            x = jnp.take_along_axis(x, take[:, None, None], axis=1)[:, 0]
        return self.unembed(x), cache
