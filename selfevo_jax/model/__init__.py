"""The decoder: its shape, its parameters, its cache."""

from selfevo_jax.model.cache import KVCache, cache_shardings, init_cache
from selfevo_jax.model.config import PRESETS, ModelConfig, RopeScaling
from selfevo_jax.model.params import abstract_params, init_onto, init_params, logical_axes, param_count, param_shardings
from selfevo_jax.model.quantize import quantize, quantize_params
from selfevo_jax.model.tpu_attention import LANES, TpuAttention
from selfevo_jax.model.transformer import Transformer

__all__ = [
    "LANES",
    "PRESETS",
    "KVCache",
    "ModelConfig",
    "RopeScaling",
    "TpuAttention",
    "Transformer",
    "abstract_params",
    "cache_shardings",
    "init_cache",
    "init_onto",
    "init_params",
    "logical_axes",
    "param_count",
    "param_shardings",
    "quantize",
    "quantize_params",
]
