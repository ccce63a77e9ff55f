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
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {**_ALL, "max_position_embeddings": 2048},
    "mistral": {**_ALL, **_WINDOW, "max_position_embeddings": 131072, "num_key_value_heads": 8},
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "head_dim": 128},
}
"""Of keys that are absent; one that is null is not."""

_MISSING = "the model's own config.json has it; fetch that file again"
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu", "gelu_new": "gelu"}
_FULL, _SLIDING = "full_attention", "sliding_attention"
_ROPE_KEYS = frozenset(
    {"rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "partial_rotary_factor"}
    | {"original_max_position_embeddings", "finetuned"}
)


def config_from_huggingface(tree: Mapping[str, Any], origin: object = "config.json") -> ModelConfig:
    """ModelConfig of a parsed config.json. Raises ModelError naming the key that is missing or not supported."""
    kind = tree.get("model_type")
    if not isinstance(kind, str) or kind not in _DEFAULTS:
        known = ", ".join(_DEFAULTS)
        raise ModelError(f"{origin}: model_type {reprlib.repr(kind)} is not supported; supported: {known}")
    facts = Facts({**_DEFAULTS[kind], **tree}, lambda key: f"{origin}: {key}", _MISSING)
    for key in ("mlp_bias", "attention_bias", "quantization_config"):
        if facts.get(key):
            facts.refuse(key, "none")
    if facts.number("partial_rotary_factor", 1.0) != 1.0:
        facts.refuse("partial_rotary_factor", "1.0")
    activation = facts.get("hidden_act")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        facts.refuse("hidden_act", " or ".join(_ACTIVATIONS))
    width, heads, layers = (facts.whole(key) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    scaling, theta = _rope(facts, str(origin))
    return ModelConfig(
        vocab_size=facts.whole("vocab_size"),
        d_model=width,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=facts.whole("num_key_value_heads", None if kind == "mistral" else heads),
        head_dim=facts.whole("head_dim", None if kind == "qwen3" else width // heads),
        d_ff=facts.whole("intermediate_size"),
        max_position=facts.whole("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=facts.number("rms_norm_eps"),
        tie_embeddings=facts.flag("tie_word_embeddings"),
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        activation="gelu" if _ACTIVATIONS[activation] == "gelu" else "silu",
        sliding_window=_window(facts, kind, layers),
    )


def _window(facts: Facts, kind: str, layers: int) -> int | None:
    """The window of all layers; Llama has none, whatever its file says, and Mistral needs no word to use it."""
    if kind == "llama":
        return None
    used = kind == "mistral" or facts.flag("use_sliding_window", False)
    window = facts.whole("sliding_window") if used and facts.get("sliding_window") is not None else None
    kinds = facts.get("layer_types")
    if kinds is None:
        if window is None or kind == "mistral":
            return window
        if 0 < (full := facts.whole("max_window_layers", least=0)) < layers:
            facts.refuse("max_window_layers", f"0 or {layers}: sliding windows in all layers or in none")
        return window if full == 0 else None
    if window is not None and kinds == [_SLIDING] * layers:
        return window
    if kinds != [_FULL] * layers or (window is not None and kind == "mistral"):
        facts.refuse("layer_types", f"{layers} times {_FULL}, or {_SLIDING} where there is a window")
    return None


def _rope(facts: Facts, origin: str) -> tuple[RopeScaling | None, float]:
    """Scaling and base; `rope_parameters` holds both in newer files, `rope_scaling` and `rope_theta` in older ones."""
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
    if config.qk_norm:
        kind, name = "qwen3", "Qwen3ForCausalLM"
    elif config.qkv_bias:
        kind, name = "qwen2", "Qwen2ForCausalLM"
    elif config.sliding_window is not None:
        kind, name = "mistral", "MistralForCausalLM"
    else:
        kind, name = "llama", "LlamaForCausalLM"
    windowed = config.sliding_window is not None
    if (config.qk_norm and config.qkv_bias) or (kind == "qwen2" and config.head_dim * config.n_heads != config.d_model):
        raise ModelError("export: no Hugging Face architecture has this mix of qkv_bias, qk_norm and head_dim")
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
        "hidden_act": "silu" if config.activation == "silu" else "gelu_pytorch_tanh",
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
    return tree
