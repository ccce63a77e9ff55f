"""The layers one after the other or scanned: of a training step, with as much recomputed as the memory asks for, and
of the sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from selfevo_jax.model.attention import Scoring, causal_mask
from selfevo_jax.model.cache import CacheLayer, KVCache
from selfevo_jax.model.learning import Remat
from selfevo_jax.model.params import STACKED, layer_names
from selfevo_jax.model.transformer import Attend, Block, Rope, Transformer, attend_masked, ropes_of

ATTENDED = "attended"
"""Checkpoint name of what an attention kernel's backward pass needs of the forward one."""
_LAYER_INPUT = "layer_input"


def _policy(remat: Remat) -> Callable[..., Any]:
    policies = jax.checkpoint_policies
    if remat == "minimal":
        # dots with a batch axis are attention's own, as large as its scores
        return policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(ATTENDED)
        )
    if remat == "offload":
        return policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[_LAYER_INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        )
    return policies.nothing_saveable


def hidden_states(
    model: Transformer,
    params: Any,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    *,
    remat: Remat = "none",
    adapters: Any = None,
    attend: Callable[[int | None], Attend] | None = None,
    constrain: Callable[[jax.Array], jax.Array] = lambda x: x,
    prepare_layer: Callable[[Any], Any] = lambda layer: layer,
) -> jax.Array:
    """`Transformer.hidden` without a cache, `[B, L, D]`, for a training step.

    Args:
      model: gives shape and dtype.
      params: with `layers_0`, `layers_1`, ..., which are unrolled, or `layers` (`stack_layers`), which are scanned.
      tokens, positions, segment_ids: `[B, L]`.
      remat: see `Remat`.
      adapters: the collection `lora` of `Linear`, in the form of `params`.
      attend: gives attention within a window (None sees all), in place of the plain one with its mask `[B, L, L]`.
      constrain: holds the states between layers to a sharding.
      prepare_layer: makes a layer's parameters of what stands for them in `params`.
    """
    if remat not in get_args(Remat):
        raise ValueError(f"remat is {remat!r}; expected one of {get_args(Remat)}")
    config = model.config
    if attend is None:

        def attend(window: int | None) -> Attend:
            return attend_masked(causal_mask(segment_ids, tokens.shape[1], window), Scoring.of(config))

    attends = [attend(kind.window) for kind in config.kinds]
    by_kind = list(zip(ropes_of(config, positions), attends, strict=True))
    which = [config.kinds.index(kind) for kind in config.layers]
    block = Block(config, dtype=model.dtype, param_dtype=model.param_dtype, experts=model.experts)
    scanned = STACKED in params

    def layer_of(kind: int | jax.Array) -> Callable[[jax.Array, Any], jax.Array]:
        def layer(x: jax.Array, part: tuple[Any, Any]) -> jax.Array:
            # chosen in here: what a scan chooses outside would be kept for each layer until the backward pass
            rope, attend = by_kind[kind] if isinstance(kind, int) else _chosen(by_kind, kind)
            own, lora = part
            variables = {"params": prepare_layer(own)} | ({} if lora is None else {"lora": lora})
            out: Any = block.apply(variables, checkpoint_name(x, _LAYER_INPUT), rope, attend)
            return constrain(out[0])

        return layer if remat == "none" else jax.checkpoint(layer, policy=_policy(remat), prevent_cse=not scanned)

    adapters = adapters or {}
    embedded: Any = model.apply({"params": params}, tokens, method=Transformer.embed)
    x = constrain(embedded)
    if scanned:
        kinds = None if len(by_kind) == 1 else jnp.asarray(which)

        def one(x: jax.Array, each: tuple[Any, Any]) -> tuple[jax.Array, None]:
            part, kind = each
            return layer_of(0 if kind is None else kind)(x, part), None

        x, _ = jax.lax.scan(one, x, ((params[STACKED], adapters.get(STACKED)), kinds))
    else:
        layers = [layer_of(kind) for kind in range(len(by_kind))]
        for name, kind in zip(layer_names(params), which, strict=True):
            x = layers[kind](x, (params[name], adapters.get(name)))
    normed: Any = model.apply({"params": params}, x, method=Transformer.normed)
    return constrain(normed)


def cached_logits(
    model: Transformer,
    params: Any,
    tokens: jax.Array,
    positions: jax.Array,
    *,
    cache: KVCache,
    slots: jax.Array | None = None,
    window: int | None = None,
    take: jax.Array | None = None,
) -> tuple[jax.Array, KVCache]:
    """`Transformer.__call__` with a cache, for the sampler.

    `params` with `layers_0`, `layers_1`, ... are unrolled, those with `layers` (`stack_layers`) and a stacked cache are
    scanned, as many layers at a time as their kinds repeat after. The scan carries the cache: each layer writes into it
    where it lies and reads its own part.
    """

    def apply(*args: Any, **named: Any) -> Any:
        return model.apply({"params": params}, *args, **named)

    if STACKED not in params:
        found: tuple[jax.Array, KVCache] = apply(tokens, positions, cache=cache, slots=slots, window=window, take=take)
        return found
    config = model.config
    block = Block(config, dtype=model.dtype, param_dtype=model.param_dtype, experts=model.experts)
    of_layer = model.attend_cached(cache, positions, slots, window or cache.length)
    ropes = dict(zip(config.kinds, ropes_of(config, positions), strict=True))

    def of_number(number: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), params[STACKED])

    def some(carry: tuple[jax.Array, CacheLayer], first: jax.Array) -> tuple[tuple[jax.Array, CacheLayer], None]:
        for i, kind in enumerate(config.layers[: config.period]):
            x, held = carry
            attend = of_layer(held, kind, first + i)
            out: Any = block.apply({"params": of_number(first + i)}, x, ropes[kind], attend)
            carry = out
        return carry, None

    (held,) = cache.layers
    start = (apply(tokens, method=Transformer.embed), held)
    (x, held), _ = jax.lax.scan(some, start, jnp.arange(0, config.n_layers, config.period))
    if take is not None:
        x = jnp.take_along_axis(x, take[:, None, None], axis=1)[:, 0]
    logits: jax.Array = apply(apply(x, method=Transformer.normed), method=Transformer.unembed)
    return logits, KVCache.of_layers([held])


def _chosen(by_kind: list[tuple[Rope, Attend]], kind: jax.Array) -> tuple[Rope, Attend]:
    """The rotary positions and the attention of one kind of layer, of which a scan knows the number alone."""
    ropes, attends = zip(*by_kind, strict=True)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, None]:
        return jax.lax.switch(kind, [lambda *qkv, to=to: to(*qkv)[0] for to in attends], q, k, v), None

    return jax.tree.map(lambda *each: jnp.stack(each)[kind], *ropes), attend
