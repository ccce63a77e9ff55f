"""config.json of a Hugging Face folder: to a model config and back.

What the file does not say is what `transformers` takes where it is silent (version 5, configuration_{llama,mistral,
qwen2,qwen3}.py); what this package's model does not compute is refused by key.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from selfevo_jax.checkpoint.facts import Facts
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, RopeScaling

_ALL = {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "hidden_act": "silu"}
_WINDOW = {"sliding_window": 4096, "max_window_layers": 28}
_QWEN = {**_ALL, **_WINDOW, "max_position_embeddings": 32768, "num_key_value_heads": 32}
_MISTRAL = {**_ALL, "sliding_window": 4096, "max_position_embeddings": 131072, "num_key_value_heads": 8}
_GEMMA = {
    **_ALL,
    "tie_word_embeddings": True,
    "hidden_activation": "gelu_pytorch_tanh",
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {**_ALL, "max_position_embeddings": 2048},
    "mistral": _MISTRAL,
    "ministral": _MISTRAL,
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "head_dim": 128},
    "qwen3_moe": {
        **_QWEN,
        "moe_intermediate_size": 768,
        "num_experts_per_tok": 8,
        "num_experts": 128,
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
    },
    "mixtral": {
        **_MISTRAL,
        "sliding_window": None,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "num_experts_per_tok": 2,
        "num_local_experts": 8,
    },
    "gemma2": {
        **_GEMMA,
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    },
    "gemma3_text": {
        **_GEMMA,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
        "sliding_window_pattern": 6,
    },
}
"""Of keys that are absent; one that is null is not."""

_TEXT_OF = {"gemma3": "gemma3_text"}
"""Models of text and images, by the kind of their part for text, the only one that is read."""
_GIVEN_KV_HEADS = ("mistral", "ministral", "mixtral")
_MISSING = "the model's own config.json has it; fetch that file again"
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu", "gelu_new": "gelu"}
_FULL, _SLIDING = "full_attention", "sliding_attention"
_ROPE_KEYS = frozenset(
    {"rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "partial_rotary_factor"}
    | {"original_max_position_embeddings", "finetuned"}
)


def has_images(tree: Mapping[str, Any]) -> bool:
    """Whether a parsed config.json is of a model of text and images."""
    return tree.get("model_type") in _TEXT_OF


def config_from_huggingface(tree: Mapping[str, Any], origin: object = "config.json") -> ModelConfig:
    """ModelConfig of a parsed config.json. Raises ModelError naming the key that is missing or not supported."""
    kind = tree.get("model_type")
    if isinstance(kind, str) and kind in _TEXT_OF:
        text = tree.get("text_config")
        if not isinstance(text, Mapping):
            raise ModelError(f"{origin}: text_config is missing; {_MISSING}")
        return config_from_huggingface({**text, "model_type": _TEXT_OF[kind]}, f"{origin}: text_config")
    if not isinstance(kind, str) or kind not in _DEFAULTS:
        known = ", ".join([*_DEFAULTS, *_TEXT_OF])
        raise ModelError(f"{origin}: model_type {reprlib.repr(kind)} is not supported; supported: {known}")
    facts = Facts({**_DEFAULTS[kind], **tree}, lambda key: f"{origin}: {key}", _MISSING)
    for key in ("mlp_bias", "attention_bias", "quantization_config", "use_bidirectional_attention"):
        if facts.get(key):
            facts.refuse(key, "none")
    if facts.number("partial_rotary_factor", 1.0) != 1.0:
        facts.refuse("partial_rotary_factor", "1.0")
    gemma = kind.startswith("gemma")
    activation = facts.get(acts := "hidden_activation" if gemma else "hidden_act")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        facts.refuse(acts, " or ".join(_ACTIVATIONS))
    width, heads, layers = (facts.whole(key) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    head_dim = facts.whole("head_dim", None if kind == "qwen3" or gemma else width // heads)
    window, local = _windows(facts, kind, layers)
    if kind == "gemma3_text" and facts.get("attn_logit_softcapping") is not None:
        facts.refuse("attn_logit_softcapping", "null, as transformers takes it to be in this architecture")
    scaling, theta, local_theta = (
        _both_ropes(facts, str(origin)) if kind == "gemma3_text" else (*_rope(facts, str(origin)), None)
    )
    scalar = facts.number("query_pre_attn_scalar") if gemma else head_dim
    return ModelConfig(
        vocab_size=facts.whole("vocab_size"),
        d_model=width,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=facts.whole("num_key_value_heads", None if kind in _GIVEN_KV_HEADS or gemma else heads),
        head_dim=head_dim,
        d_ff=facts.whole("moe_intermediate_size" if kind == "qwen3_moe" else "intermediate_size"),
        max_position=facts.whole("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=facts.number("rms_norm_eps"),
        tie_embeddings=facts.flag("tie_word_embeddings"),
        qkv_bias=kind == "qwen2",
        qk_norm=kind in ("qwen3", "qwen3_moe", "gemma3_text"),
        activation="gelu" if _ACTIVATIONS[activation] == "gelu" else "silu",
        sliding_window=window,
        local_layers=local,
        local_rope_theta=local_theta if local else None,
        query_scalar=None if scalar == head_dim else scalar,
        attention_softcap=_or_none(facts, "attn_logit_softcapping") if kind == "gemma2" else None,
        logit_softcap=_or_none(facts, "final_logit_softcapping") if gemma else None,
        post_norms=gemma,
        zero_centred_norms=gemma,
        scaled_embeddings=gemma,
        **_experts(facts, kind),
    )


def _experts(facts: Facts, kind: str) -> dict[str, Any]:
    """Of a mixture; the same in all layers. The loss that balances experts is no part of the model."""
    if kind not in ("qwen3_moe", "mixtral"):
        return {}
    if kind == "qwen3_moe":
        if facts.whole("decoder_sparse_step") != 1:
            facts.refuse("decoder_sparse_step", "1: experts in all layers")
        if facts.get("mlp_only_layers"):
            facts.refuse("mlp_only_layers", "none: experts in all layers")
    key = next((k for k in ("num_local_experts", "num_experts") if facts.get(k) is not None), "num_experts")
    return {
        "n_experts": facts.whole(key),
        "experts_per_token": facts.whole("num_experts_per_tok"),
        "normalized_shares": kind == "mixtral" or facts.flag("norm_topk_prob"),
    }


def _or_none(facts: Facts, key: str) -> float | None:
    return None if facts.get(key) is None else facts.number(key)


def _windows(facts: Facts, kind: str, layers: int) -> tuple[int | None, tuple[bool, ...]]:
    """The window, and the layers that it is of where they differ (of Gemma 3 whenever it is of some).

    Llama has none, whatever its file says; Qwen alone needs a word to use it. A Mistral with `layer_types` is read as
    Ministral, as by `AutoModel`.
    """
    if kind == "llama":
        return None, ()
    used = not kind.startswith("qwen") or facts.flag("use_sliding_window", False)
    window = facts.whole("sliding_window") if used and facts.get("sliding_window") is not None else None
    kinds = None if kind in ("qwen3_moe", "mixtral") else facts.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != layers or any(one not in (_FULL, _SLIDING) for one in kinds):
            facts.refuse("layer_types", f"{_FULL} or {_SLIDING} for each of {layers} layers")
        local = [one == _SLIDING for one in kinds]
        if any(local) and window is None:
            facts.refuse("layer_types", f"{_FULL} in all layers, where there is no window")
    elif window is None:
        local = [False] * layers
    elif kind.startswith("gemma"):
        period = 2 if kind == "gemma2" else facts.whole("sliding_window_pattern")
        local = [(layer + 1) % period != 0 for layer in range(layers)]
    elif kind in ("qwen2", "qwen3"):
        first = facts.whole("max_window_layers", least=0)
        local = [layer >= first for layer in range(layers)]
    else:
        local = [True] * layers
    if not any(local):
        return None, ()
    return window, () if all(local) and kind != "gemma3_text" else tuple(local)


def _both_ropes(facts: Facts, origin: str) -> tuple[RopeScaling | None, float, float]:
    """Gemma 3: scaling and base of the layers that see all, and the base of the local ones, which are not scaled."""
    both, older = facts.get("rope_parameters"), facts.get("rope_scaling")
    if not both:
        if isinstance(older, Mapping) and "rope_type" not in older:
            facts.refuse("rope_scaling", "with its rope_type (transformers passes over another name in Gemma 3)")
        return *_rope(facts, origin), facts.number("rope_local_base_freq")
    if not isinstance(both, Mapping) or both.keys() - {_FULL, _SLIDING}:
        facts.refuse("rope_parameters", f"an object with {_FULL} and {_SLIDING}")
    if older:
        facts.refuse("rope_scaling", "none beside rope_parameters")

    def one(kind: str, base: str) -> tuple[RopeScaling | None, float]:
        values = {
            "rope_parameters": both.get(kind),
            "rope_theta": facts.number(base),
            "max_position_embeddings": facts.get("max_position_embeddings"),
        }
        return _rope(Facts(values, lambda key: f"{origin}: {key} ({kind})", _MISSING), origin)

    (scaling, theta), (local_scaling, local) = one(_FULL, "rope_theta"), one(_SLIDING, "rope_local_base_freq")
    if local_scaling is not None:
        facts.refuse("rope_parameters", f"{_SLIDING} without scaling")
    return scaling, theta, local


def _rope(facts: Facts, origin: str) -> tuple[RopeScaling | None, float]:
    """Scaling and base, the same for all layers; `rope_parameters` holds both in newer files, `rope_scaling` and
    `rope_theta` in older ones."""
    forms = [_rope_form(facts, key) for key in ("rope_parameters", "rope_scaling") if facts.get(key)]
    if len(forms) == 2 and forms[0] != forms[1]:
        facts.refuse("rope_scaling", "the same as rope_parameters, where both are there")
    form = forms[0] if forms else {"rope_theta": facts.number("rope_theta")}
    rope = Facts(form, lambda key: f"{origin}: {key} (rotary positions)", _MISSING)
    theta = rope.number("rope_theta")
    if rope.number("partial_rotary_factor", 1.0) != 1.0:
        rope.refuse("partial_rotary_factor", "1.0")
    kind = rope.get("rope_type")
    if kind in (None, "default"):
        return None, theta
    if kind == "linear":
        return RopeScaling("linear", rope.number("factor")), theta
    if kind == "llama3":
        before = rope.whole("original_max_position_embeddings", facts.whole("max_position_embeddings"))
        if facts.whole("original_max_position_embeddings", before) != before:
            facts.refuse("original_max_position_embeddings", f"{before}, as for the rotary positions")
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        return RopeScaling("llama3", rope.number("factor"), low, high, before), theta
    rope.refuse("rope_type", "default, linear or llama3")


def _rope_form(facts: Facts, key: str) -> dict[str, Any]:
    """What stands under `key`, with its type under both names and the base of the file where it has none."""
    found = facts.get(key)
    if not isinstance(found, Mapping):
        facts.refuse(key, "an object")
    if other := sorted(found.keys() - _ROPE_KEYS):
        facts.refuse(key, f"{', '.join(sorted(_ROPE_KEYS))}, but it has '{other[0]}'")
    kind = found.get("rope_type", found.get("type"))
    if found.get("type", kind) != kind:
        facts.refuse(key, "one type of rotary positions in 'type' and 'rope_type'")
    if kind is None and found.get("factor", 1) != 1:
        facts.refuse(key, "a factor with its rope_type")
    theta = found["rope_theta"] if "rope_theta" in found else facts.number("rope_theta")
    return {**found, "type": kind, "rope_type": kind, "rope_theta": theta}


def config_to_huggingface(
    config: ModelConfig, dtype: str = "float32", bos_id: int | None = None, eos_ids: Sequence[int] = ()
) -> dict[str, Any]:
    """config.json of the architecture that has this config's features. Raises ModelError when there is none."""
    kind, name = _architecture(config)
    windowed = config.sliding_window is not None
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling
        rope = {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind == "llama3":
            rope |= {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_max_position,
            }
    tree: dict[str, Any] = {
        "architectures": [name],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.max_position,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scaling is None else rope,
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_activation" if kind.startswith("gemma") else "hidden_act": (
            "silu" if config.activation == "silu" else "gelu_pytorch_tanh"
        ),
        "attention_bias": False,
        "bos_token_id": bos_id,
        "eos_token_id": list(eos_ids) if len(eos_ids) > 1 else eos_ids[0] if eos_ids else None,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if kind != "llama":
        tree["sliding_window"] = config.sliding_window
    if kind.startswith("qwen"):
        tree |= {"use_sliding_window": windowed, "max_window_layers": 0 if windowed else config.n_layers}
    if config.n_experts:
        tree |= {"num_experts_per_tok": config.experts_per_token, "output_router_logits": False}
        tree["num_experts" if kind == "qwen3_moe" else "num_local_experts"] = config.n_experts
    if kind == "qwen3_moe":
        tree |= {
            "moe_intermediate_size": config.d_ff,
            "intermediate_size": config.d_ff * config.experts_per_token,
            "norm_topk_prob": config.normalized_shares,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    if config.local_layers or kind.startswith("gemma"):
        tree["layer_types"] = [_FULL if layer.window is None else _SLIDING for layer in config.layers]
    if kind.startswith("gemma"):
        scalar = config.query_scalar or config.head_dim
        tree |= {
            "query_pre_attn_scalar": int(scalar) if scalar == int(scalar) else scalar,
            "attn_logit_softcapping": config.attention_softcap,
            "final_logit_softcapping": config.logit_softcap,
        }
    if kind == "gemma3_text":
        local = config.local_rope_theta or 10000.0
        tree["rope_local_base_freq"] = local
        tree["rope_parameters"] = {
            _FULL: tree["rope_parameters"],
            _SLIDING: {"rope_type": "default", "rope_theta": local},
        }
        del tree["rope_scaling"]  # a second word on the same, and read on top of rope_parameters
    _require_said(config, tree)
    return tree


def _architecture(config: ModelConfig) -> tuple[str, str]:
    """Its model_type and the name of its class."""
    if config.n_experts:
        return ("qwen3_moe", "Qwen3MoeForCausalLM") if config.qk_norm else ("mixtral", "MixtralForCausalLM")
    if config.post_norms:
        return ("gemma3_text", "Gemma3ForCausalLM") if config.qk_norm else ("gemma2", "Gemma2ForCausalLM")
    if config.qk_norm:
        return "qwen3", "Qwen3ForCausalLM"
    if config.qkv_bias:
        return "qwen2", "Qwen2ForCausalLM"
    if config.local_layers:
        return "ministral", "MinistralForCausalLM"
    return ("mistral", "MistralForCausalLM") if config.sliding_window is not None else ("llama", "LlamaForCausalLM")


def _require_said(config: ModelConfig, tree: dict[str, Any]) -> None:
    """Raises ModelError where the file would not be read as this config: no architecture has its mix of features."""
    said, wanted = config_from_huggingface(tree).to_dict(), config.to_dict()
    other = [key for key, value in wanted.items() if said[key] != value]
    # transformers' qwen2 has no size of heads of its own
    if tree["model_type"] == "qwen2" and config.head_dim * config.n_heads != config.d_model:
        other.append("head_dim")
    if other:
        raise ModelError(f"export: no Hugging Face architecture has this mix of features ({', '.join(other)})")
