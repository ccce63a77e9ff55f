"""The layers of a training step: one after the other or scanned, with as much recomputed as the memory asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
from jax.ad_checkpoint import checkpoint_name

from selfevo_jax.model.attention import causal_mask, rope_frequencies, rotary
from selfevo_jax.model.params import STACKED, layer_names
from selfevo_jax.model.transformer import Attend, Block, Transformer, attend_masked

Remat = Literal["none", "minimal", "full", "offload"]
"""What the backward pass finds in memory: everything (`none`), the outputs of the matrix products (`minimal`), the
input of each layer alone (`full`), or that in the host's memory (`offload`). The rest is computed again.
In the order of the memory that they take, the most first."""

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
    attend: Attend | None = None,
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
      attend: in place of the plain attention with its mask `[B, L, L]`.
      constrain: holds the states between layers to a sharding.
      prepare_layer: makes a layer's parameters of what stands for them in `params`.
    """
    if remat not in get_args(Remat):
        raise ValueError(f"remat is {remat!r}; expected one of {get_args(Remat)}")
    if attend is None:
        attend = attend_masked(causal_mask(segment_ids, tokens.shape[1], model.config.sliding_window))
    rope = rotary(positions, rope_frequencies(model.config))
    block = Block(model.config, dtype=model.dtype, param_dtype=model.param_dtype)

    def layer(x: jax.Array, part: tuple[Any, Any]) -> jax.Array:
        own, lora = part
        variables = {"params": prepare_layer(own)} | ({} if lora is None else {"lora": lora})
        out: Any = block.apply(variables, checkpoint_name(x, _LAYER_INPUT), rope, attend)
        return constrain(out[0])

    adapters = adapters or {}
    scanned = STACKED in params
    if remat != "none":
        layer = jax.checkpoint(layer, policy=_policy(remat), prevent_cse=not scanned)
    embedded: Any = model.apply({"params": params}, tokens, method=Transformer.embed)
    x = constrain(embedded)
    if scanned:
        x, _ = jax.lax.scan(lambda x, part: (layer(x, part), None), x, (params[STACKED], adapters.get(STACKED)))
    else:
        for name in layer_names(params):
            x = layer(x, (params[name], adapters.get(name)))
    normed: Any = model.apply({"params": params}, x, method=Transformer.normed)
    return constrain(normed)
