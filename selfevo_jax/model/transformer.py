"""The decoder, as a purely functional Linen module: parameters and cache go in, logits and cache come out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from selfevo_jax.model.attention import (
    Part,
    Scoring,
    activated,
    apply_rotary,
    attend,
    cache_mask,
    causal_mask,
    rope_frequencies,
    rotary,
    soft_capped,
)
from selfevo_jax.model.cache import CacheLayer, CachePart, HeadMesh, KVCache, take_rows, write
from selfevo_jax.model.config import LayerKind, ModelConfig
from selfevo_jax.model.experts import ExpertMesh, Experts
from selfevo_jax.model.initial import matrix_init, scale_free
from selfevo_jax.model.int8 import is_int8
from selfevo_jax.model.linear import Linear, together
from selfevo_jax.model.tpu_attention import TpuAttention
from selfevo_jax.native.calls import PANEL, attention, products

Rope = tuple[jax.Array, jax.Array]
Attend = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, CacheLayer | None]]
"""From rotated q `[B, L, H, head_dim]` and k, v `[B, L, K, head_dim]` to `[B, L, H, head_dim]`, and the cache's layer
where there is one."""

_FEW_TOKENS = 64


def attend_masked(mask: jax.Array, scoring: Scoring) -> Attend:
    """The plain path without a cache; mask `[B or 1, L, L]`."""
    return lambda q, k, v: (attend(q, [Part(lambda: (k.swapaxes(1, 2), v.swapaxes(1, 2)), mask)], scoring), None)


def ropes_of(config: ModelConfig, positions: jax.Array) -> list[Rope]:
    """Rotary positions of each kind of layer, at integers `[B, L]`."""
    return [rotary(positions, rope_frequencies(config.head_dim, kind)) for kind in config.kinds]


class RMSNorm(nn.Module):
    """Root-mean-square norm in fp32 (arXiv 1910.07467)."""

    eps: float
    axis: str | None
    dtype: Any
    param_dtype: Any
    zero_centred: bool = False
    """Multiplies by 1 + scale."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale: Any = self.param(
            "scale",
            nn.with_logical_partitioning(
                nn.initializers.zeros if self.zero_centred else nn.initializers.ones, (self.axis,)
            ),
            (x.shape[-1],),
            scale_free(self.param_dtype),
        )
        if self.zero_centred:
            scale = 1 + scale.astype(jnp.float32)
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return (wide * scale).astype(self.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions; what a query sees, and a cache, are up to `attend`."""

    config: ModelConfig
    dtype: Any
    param_dtype: Any

    def setup(self) -> None:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.q = Linear((c.d_model, c.n_heads, c.head_dim), ("embed", "heads", None), bias=c.qkv_bias, **kinds)
        self.k = Linear((c.d_model, c.n_kv_heads, c.head_dim), ("embed", "kv_heads", None), bias=c.qkv_bias, **kinds)
        self.v = Linear((c.d_model, c.n_kv_heads, c.head_dim), ("embed", "kv_heads", None), bias=c.qkv_bias, **kinds)
        self.o = Linear((c.n_heads, c.head_dim, c.d_model), ("heads", None, "embed"), inputs=2, **kinds)
        if c.qk_norm:
            self.q_norm = RMSNorm(c.norm_eps, None, zero_centred=c.zero_centred_norms, **kinds)
            self.k_norm = RMSNorm(c.norm_eps, None, zero_centred=c.zero_centred_norms, **kinds)

    def __call__(self, x: jax.Array, rope: Rope, attend: Attend) -> tuple[jax.Array, CacheLayer | None]:
        q, k, v = together(x, self.q, self.k, self.v)
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        out, cached = attend(apply_rotary(q, *rope), apply_rotary(k, *rope), v)
        return self.o(out), cached


class FeedForward(nn.Module):
    """Gated feed-forward (SwiGLU or GeGLU, arXiv 2002.05202)."""

    config: ModelConfig
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        wide = [Linear((c.d_model, c.d_ff), ("embed", "mlp"), name=name, **kinds) for name in ("gate", "up")]
        gate, up = together(x, *wide)
        act = activated(gate, c.activation)
        return Linear((c.d_ff, c.d_model), ("mlp", "embed"), name="down", **kinds)(act * up)


class Block(nn.Module):
    """One layer: attention and feed-forward, each on a normed residual."""

    config: ModelConfig
    dtype: Any
    param_dtype: Any
    experts: ExpertMesh | None = None

    def setup(self) -> None:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = functools.partial(RMSNorm, c.norm_eps, "embed", zero_centred=c.zero_centred_norms, **kinds)
        self.attention_norm = norm()
        self.attention = Attention(c, **kinds)
        self.mlp_norm = norm()
        self.mlp = Experts(c, on=self.experts, **kinds) if c.n_experts else FeedForward(c, **kinds)
        if c.post_norms:
            self.post_attention_norm, self.post_mlp_norm = norm(), norm()

    def __call__(self, x: jax.Array, rope: Rope, attend: Attend) -> tuple[jax.Array, CacheLayer | None]:
        with jax.named_scope("attention"):
            out, cached = self.attention(self.attention_norm(x), rope, attend)
            x = x + (self.post_attention_norm(out) if self.config.post_norms else out)
        with jax.named_scope("mlp"):
            out = self.mlp(self.mlp_norm(x))
            return x + (self.post_mlp_norm(out) if self.config.post_norms else out), cached


class Transformer(nn.Module):
    """A causal decoder. Layers are unrolled; compute runs in `dtype`, norms, softmax and logits in fp32.

    With `param_dtype` int8 (for decoding) matrices are int8 with float32 scales, norms and biases float32.
    """

    config: ModelConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    tpu: TpuAttention | None = None
    """The kernels that attend to the cache where they serve; None is the plain path."""
    native: bool = False
    """Whether one query a row attends to a float32 cache by the kernel in C, which reads what each row holds."""
    skips: bool = False
    """Whether a program finds out when it runs which parts of the cache its queries reach, and leaves out the others.
    Cheap on a CPU; a GPU's host would have to wait for each answer."""
    experts: ExpertMesh | None = None
    """Of a mixture of experts on several devices; None leaves its layout to the compiler."""
    heads: HeadMesh | None = None
    """Of a cache whose heads lie on several devices, where rows of it are named by `slots`."""

    def setup(self) -> None:
        c = self.config
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.embedding_panels: Any = None
        if self.has_variable("params", "embedding_panels"):
            self.embedding_panels = self.get_variable("params", "embedding_panels")
        else:
            self.embedding = self.param(
                "embedding",
                nn.with_logical_partitioning(matrix_init(self.param_dtype), ("vocab", "embed")),
                (c.vocab_size, c.d_model),
                self.param_dtype,
            )
        self.embedding_scale: Any = None
        if is_int8(self.param_dtype):
            ones = nn.with_logical_partitioning(nn.initializers.ones, ("vocab",))
            self.embedding_scale = self.param("embedding_scale", ones, (c.vocab_size,), jnp.float32)
        self.layers = [Block(c, experts=self.experts, **kinds) for _ in range(c.n_layers)]
        self.final_norm = RMSNorm(c.norm_eps, "embed", zero_centred=c.zero_centred_norms, **kinds)
        if not c.tie_embeddings:
            self.head = Linear((c.d_model, c.vocab_size), ("embed", "vocab"), out_dtype=jnp.float32, **kinds)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """States `[B, L, D]` of integers `[B, L]`."""
        if self.embedding_panels is None:
            x = jnp.asarray(self.embedding)[tokens].astype(self.dtype)
        else:
            known = jnp.clip(tokens, 0, self.config.vocab_size - 1)
            x = jnp.asarray(self.embedding_panels)[known // PANEL, :, known % PANEL]
        if self.embedding_scale is not None:
            x = (x * self.embedding_scale[tokens][..., None]).astype(self.dtype)
        if self.config.scaled_embeddings:
            x = x * jnp.asarray(self.config.d_model**0.5, self.dtype)
        return x

    def normed(self, x: jax.Array) -> jax.Array:
        """What `unembed` takes, of the states after the last layer."""
        return self.final_norm(x)

    def hidden(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        *,
        cache: KVCache | None = None,
        slots: jax.Array | None = None,
        window: int | None = None,
        segment_ids: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """States before the unembedding `[B, L, D]`, and the cache with these tokens in it.

        tokens and positions are integers `[B, L]`, of the cache's rows or of its rows `slots [B]`; attention reads the
        first `window` positions, by default all. Without a cache, `segment_ids [B, L]` keeps packed sequences apart.
        """
        c = self.config
        ropes = dict(zip(c.kinds, self._kept_ropes(positions), strict=True))
        x, written = self.embed(tokens), []
        if cache is None:
            masks = {kind: causal_mask(segment_ids, tokens.shape[1], kind.window) for kind in c.kinds}
            attends = [attend_masked(masks[kind], Scoring.of(c)) for kind in c.layers]
        else:
            of_layer = self.attend_cached(cache, positions, slots, window or cache.length)
            attends = [of_layer(*each) for each in zip(cache.layers, c.layers, strict=True)]
        for layer, kind, to in zip(self.layers, c.layers, attends, strict=True):
            x, cached = layer(x, ropes[kind], to)
            if cached is not None:
                written.append(cached)
        return self.normed(x), None if cache is None else KVCache.of_layers(written)

    def _kept_ropes(self, positions: jax.Array) -> list[Rope]:
        """`ropes_of`, made once: XLA on a CPU makes sines anew in each layer, unless they come out of a branch."""
        made = functools.partial(ropes_of, self.config)
        if not self.skips:
            return made(positions)

        def none(positions: jax.Array) -> list[Rope]:
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(made, positions))

        found: list[Rope] = jax.lax.cond(jnp.any(positions >= 0), made, none, positions)
        return found

    def attend_cached(
        self, cache: KVCache, positions: jax.Array, slots: jax.Array | None, window: int
    ) -> Callable[..., Attend]:
        """Gives for a layer of the cache, its kind and, of a stacked cache, its number: what writes the new keys and
        values, and attends to the first `window` positions."""
        config, starts = self.config, [start for start in cache.starts if start < window]
        scoring = Scoring.of(config)
        seen = {kind: cache_mask(positions, window, kind.window) for kind in config.kinds}
        deepest = jnp.max(jnp.where(positions < cache.length, positions, -1))
        masks = {kind: jnp.split(mask, starts[1:], axis=2) for kind, mask in seen.items()}
        reached = [deepest >= start if self.skips and start else None for start in starts]

        def of_layer(layer: CacheLayer, kind: LayerKind, number: jax.Array | None = None) -> Attend:
            def to(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, CacheLayer]:
                # zeros behind head_dim change no score
                room = [(0, 0)] * 3 + [(0, layer[0][0].shape[-1] - config.head_dim)]
                out, cached = attended(*(jnp.pad(x, room) if room[-1][1] else x for x in (q, k, v)))
                return out[..., : config.head_dim], cached

            def attended(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, CacheLayer]:
                cached = write(layer, k, v, positions, slots, self.heads, number)

                def read(part: CachePart, start: int) -> CachePart:
                    return take_rows(part, slots, window - start, self.heads, number)

                def widened(part: CachePart, start: int) -> CachePart:
                    k, v, *scales = read(part, start)
                    return k.astype(self.dtype), v.astype(self.dtype), *scales

                held = list(zip(cached, starts, strict=False))
                whole = jax.ShapeDtypeStruct((k.shape[0], k.shape[2], window, k.shape[3]), cached[0][0].dtype)
                among = number is not None and slots is None
                if self.native and q.shape[1] == 1 and slots is None:
                    settings: Any = {"scale": scoring.scale, "softcap": scoring.softcap, "window": kind.window}
                    keys_values = [(part[0], part[1]) for part, _ in held]
                    return attention(q[:, 0], positions[:, 0], keys_values, **settings)[:, None], cached
                if self.tpu is not None and self.tpu.serves(q, whole, among):
                    if among and q.shape[1] == len(held) == 1:
                        keys, values, *_ = cached[0]
                        return self.tpu.attend(q, keys, values, positions, kind.window, number), cached
                    parts = [read(*part) for part in held]
                    keys, values, *_ = (jnp.concatenate(part, axis=2) for part in zip(*parts, strict=True))
                    return self.tpu.attend(q, keys, values, positions, kind.window), cached
                gets = [functools.partial(widened, *part) for part in held]
                parts_seen = [Part(*one) for one in zip(gets, masks[kind], reached, strict=True)]
                return attend(q, parts_seen, scoring), cached

            return to

        return of_layer

    def unembed(self, x: jax.Array) -> jax.Array:
        """fp32 logits `[..., V]` of states `[..., D]`."""
        return soft_capped(self._products(x), self.config.logit_softcap)

    def _products(self, x: jax.Array) -> jax.Array:
        """Of states and the unembedding."""
        if self.config.tie_embeddings:
            if self.embedding_panels is not None:
                flat = x.astype(jnp.float32).reshape(-1, x.shape[-1])
                (wide,) = products(flat, [self.embedding_panels], [self.config.vocab_size])
                return wide.reshape(*x.shape[:-1], -1)
            table = jnp.asarray(self.embedding, self.dtype)
            if math.prod(x.shape[:-1]) <= _FEW_TOKENS:
                # with the table on the left (where the barrier keeps it) a CPU takes half the time for 16 tokens
                wide = jnp.einsum("vd,nd->vn", table, x.reshape(-1, x.shape[-1]), preferred_element_type=jnp.float32)
                logits = jax.lax.optimization_barrier(wide).T.reshape(*x.shape[:-1], -1)
            else:
                logits = jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)
            return logits if self.embedding_scale is None else logits * self.embedding_scale
        return self.head(x)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        *,
        cache: KVCache | None = None,
        slots: jax.Array | None = None,
        window: int | None = None,
        segment_ids: jax.Array | None = None,
        take: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Logits in fp32, `[B, L, V]`, or `[B, V]` at index `take [B]` of each row; and the cache."""
        x, cache = self.hidden(tokens, positions, cache=cache, slots=slots, window=window, segment_ids=segment_ids)
        if take is not None:
            x = jnp.take_along_axis(x, take[:, None, None], axis=1)[:, 0]
        return self.unembed(x), cache
