"""Tiny random models of `transformers`, one of each family, for the tests that compare with it."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from selfevo_jax.checkpoint import read_huggingface

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SHAPE = {
    "vocab_size": 131,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 130,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MODELS = {
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "llama-untied": ("Llama", {"tie_word_embeddings": False, "rms_norm_eps": 1e-5}),
    "llama-3-rope": ("Llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {"tie_word_embeddings": False, "sliding_window": 6, "head_dim": 12}),
    "qwen-2.5": (
        "Qwen2",
        {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "qwen-3": ("Qwen3", {"tie_word_embeddings": False, "head_dim": 16}),
    "qwen-2.5-mixed": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "ministral": (
        "Ministral",
        {"head_dim": 8, "sliding_window": 6, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "qwen-3-moe": (
        "Qwen3Moe",
        {
            "head_dim": 8,
            "moe_intermediate_size": 24,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
        },
    ),
    "mixtral": ("Mixtral", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "gemma-2": (
        "Gemma2",
        {
            "head_dim": 16,
            "sliding_window": 6,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma-3": (
        "Gemma3",
        {
            "head_dim": 16,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
}


def made_once(tmp_path_factory):
    """From a model's name to the model, the folder that it is saved in, and what is read of that: config and fp32
    parameters. Each is made at its first use."""

    @functools.cache
    def made(name):
        folder = tmp_path_factory.mktemp(name)
        model = reference(name)
        model.save_pretrained(folder)
        config, load = read_huggingface(folder)
        return model, folder, config, load(None, jnp.float32)

    return made


def reference(name, seed=0):
    kind, extra = MODELS[name]
    torch.manual_seed(seed)
    text = "Text" if kind == "Gemma3" else ""
    config = getattr(transformers, f"{kind}{text}Config")(**{**SHAPE, **extra}, attn_implementation="eager")
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval().float()
    with torch.no_grad():  # norms and biases that are not all ones and zeros
        for key, parameter in model.named_parameters():
            if "norm" in key or key.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tokens(batch=2, length=24, seed=0):
    return np.random.default_rng(seed).integers(2, SHAPE["vocab_size"] - 1, (batch, length))


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.numpy()
