"""The metadata of a GGUF file as a model config: read as llama.cpp reads it, or refused by key.

Defaults are those of llama.cpp's loader (src/llama-model.cpp, src/models/{llama,qwen2,qwen3}.cpp). A key of the
architecture that is neither read here nor known to be without effect is refused: what it says could change logits.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from selfevo_jax.checkpoint.facts import Facts
from selfevo_jax.errors import ModelError
from selfevo_jax.model import LayerKind, ModelConfig, RopeScaling
from selfevo_jax.model.attention import rope_frequencies

HEAD, EMBEDDING, ROPE = "output.weight", "token_embd.weight", "rope_freqs.weight"
_KINDS = ("llama", "qwen2", "qwen3")

_SILENT = frozenset(
    {
        "vocab_size",  # the embedding has it
        "tensor_data_layout",  # of the original files, before they were converted
        "rope.scaling.original_context_length",  # of YaRN, which is refused, like the five below
        "rope.scaling.finetuned",
        "rope.scaling.yarn_log_multiplier",
        "rope.scaling.yarn_ext_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "expert_used_count",  # of mixtures, which are refused by expert_count
    }
)
"""Keys without an effect on these architectures."""

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "expert_count": (0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
    "attention.causal": (True,),
    "attention.max_alibi_bias": (0,),
    "attention.clamp_kqv": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "rope.scaling.attn_factor": (1,),
}
"""Keys that may be there with a value that says what these architectures do anyway."""


def _refuse_others(facts: Facts, head_dim: int) -> None:
    """Raises ModelError on a key that was not read and could change what the model computes."""
    scale = facts.number("attention.scale", 0.0)
    if scale and not math.isclose(scale, head_dim**-0.5, rel_tol=1e-5):
        facts.refuse("attention.scale", f"1/sqrt({head_dim})")
    for key in sorted(facts.unread - _SILENT):
        if key not in _NEUTRAL:
            facts.refuse(key, "no such key: it asks something else of the model; use the model's original folder")
        value = facts.get(key)
        if any(item not in _NEUTRAL[key] for item in (value if isinstance(value, list) else [value])):
            facts.refuse(key, " or ".join(map(str, _NEUTRAL[key])))


def config_from_gguf(
    path: Path, fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], factors: np.ndarray | None
) -> tuple[ModelConfig, str]:
    """Config and architecture of a file.

    Args:
      path: named in errors.
      fields: the metadata.
      shapes: name -> shape of each tensor, sizes outermost first.
      factors: the tensor `rope_freqs.weight`, one divisor a rotary frequency, where there is one.

    Raises:
      ModelError: an architecture, key or value that is not supported, by its name.
    """
    kind = fields.get("general.architecture")
    if kind not in _KINDS:
        raise ModelError(f"{path}: architecture {reprlib.repr(kind)} is not supported; supported: {', '.join(_KINDS)}")
    if (what := fields.get("general.type", "model")) != "model":
        raise ModelError(f"{path}: general.type is {reprlib.repr(what)}, expected a model")
    if (parts := fields.get("split.count", 0)) not in (0, 1):
        raise ModelError(f"{path}: one of {reprlib.repr(parts)} parts; join them with: llama-gguf-split --merge")
    if EMBEDDING not in shapes:
        raise ModelError(f"{path}: tensor '{EMBEDDING}' is missing")
    own = {key.removeprefix(f"{kind}."): value for key, value in fields.items() if key.startswith(f"{kind}.")}
    if factors is not None and kind != "llama":
        raise ModelError(f"{path}: tensor '{ROPE}' is not known for '{kind}'; convert the model to GGUF again")
    facts = Facts(own, lambda key: f"{path}: metadata '{kind}.{key}'", "convert the model to GGUF again")
    for key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        each = facts.get(key)
        if isinstance(each, list) and each:  # one number a layer
            if any(item != each[0] for item in each):
                facts.refuse(key, "the same number in all layers")
            facts.values[key] = each[0]
    width, heads = facts.whole("embedding_length"), facts.whole("attention.head_count")
    head_dim = facts.whole("attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if facts.whole(key, head_dim) != head_dim:
            facts.refuse(key, f"{head_dim}, the size of a head")
    theta = facts.number("rope.freq_base", 10000.0)
    longest = facts.whole("context_length")
    layers = facts.whole("block_count")
    _refuse_window(facts, layers, longest)
    config = ModelConfig(
        vocab_size=shapes[EMBEDDING][0],
        d_model=width,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=facts.whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        d_ff=facts.whole("feed_forward_length"),
        max_position=longest,
        rope_theta=theta,
        rope_scaling=_scaling(facts, factors, theta, head_dim),
        # stored as fp32: 1e-5 comes back as 9.99999974e-06
        norm_eps=float(f"{facts.number('attention.layer_norm_rms_epsilon'):.6g}"),
        tie_embeddings=HEAD not in shapes,
        qkv_bias="blk.0.attn_q.bias" in shapes,
        qk_norm=kind == "qwen3",
    )
    _refuse_others(facts, head_dim)
    return config, kind


def _refuse_window(facts: Facts, layers: int, longest: int) -> None:
    """llama.cpp attends to everything in these architectures: a window that would hide something is refused."""
    window, pattern = facts.get("attention.sliding_window"), facts.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        windowed = any(pattern)
    elif type(pattern) is int:  # a period, whose last layer sees all
        windowed = pattern < 1 or any(layer % pattern < pattern - 1 for layer in range(layers))
    else:
        windowed = window is not None
    if windowed and window != 0 and not (type(window) is int and window >= longest):
        facts.refuse("attention.sliding_window", f"none, or {longest} (the context) and more")


def rope_factors(head_dim: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    """What the tensor ROPE holds: the frequencies without scaling over those with it, `[head_dim / 2]`."""
    plain, scaled = (rope_frequencies(head_dim, LayerKind(None, theta, kind)) for kind in (None, scaling))
    return plain / scaled


def _scaling(facts: Facts, factors: np.ndarray | None, theta: float, head_dim: int) -> RopeScaling | None:
    """Llama 3's scaling is stored as one divisor a frequency: found again from the largest, and compared."""
    name = facts.get("rope.scaling.type")
    newer, older = facts.number("rope.scaling.factor", 0.0), facts.number("rope.scale_linear", 0.0)
    factor = newer or older or 1.0
    if name not in (None, "none", "linear"):
        facts.refuse("rope.scaling.type", "none or linear")
    scaling = None if name == "none" or factor == 1.0 else RopeScaling("linear", factor)
    if factors is None:
        return scaling
    if scaling is not None:
        facts.refuse("rope.scaling.factor", f"none beside the tensor '{ROPE}'")
    scaling = RopeScaling("llama3", float(np.max(factors)))
    wanted = rope_factors(head_dim, theta, scaling)
    if factors.shape != wanted.shape or not np.allclose(wanted, factors, rtol=1e-3):
        raise ModelError(f"tensor '{ROPE}' is not Llama 3's scaling, and no other is supported")
    return scaling
