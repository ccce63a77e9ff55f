"""The decoder: its shape, its parameters, its cache."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.model.cache import KVCache, cache_shardings, init_cache
    from selfevo_jax.model.config import PRESETS, LayerKind, ModelConfig, RopeScaling, preset_shape
    from selfevo_jax.model.experts import ExpertMesh
    from selfevo_jax.model.finite import leaves_not_finite, require_finite, shown_leaves
    from selfevo_jax.model.int8 import quantize, quantize_params
    from selfevo_jax.model.learning import MATRICES, LoraConfig, Remat
    from selfevo_jax.model.lora import (
        abstract_adapters,
        adapter_axes,
        init_adapters,
        merge_adapters,
        scaled_adapters,
    )
    from selfevo_jax.model.params import (
        abstract_params,
        attended_positions,
        init_onto,
        init_params,
        logical_axes,
        param_count,
        param_shardings,
        stack_axes,
        stack_layers,
        unstack_layers,
        used_params,
    )
    from selfevo_jax.model.stack import hidden_states
    from selfevo_jax.model.tpu_attention import LANES, TpuAttention
    from selfevo_jax.model.train_attention import TrainAttention
    from selfevo_jax.model.transformer import Transformer
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "LANES",
    "MATRICES",
    "PRESETS",
    "ExpertMesh",
    "KVCache",
    "LayerKind",
    "LoraConfig",
    "ModelConfig",
    "Remat",
    "RopeScaling",
    "TpuAttention",
    "TrainAttention",
    "Transformer",
    "abstract_adapters",
    "abstract_params",
    "adapter_axes",
    "attended_positions",
    "cache_shardings",
    "hidden_states",
    "init_adapters",
    "init_cache",
    "init_onto",
    "init_params",
    "leaves_not_finite",
    "logical_axes",
    "merge_adapters",
    "param_count",
    "param_shardings",
    "preset_shape",
    "quantize",
    "quantize_params",
    "require_finite",
    "scaled_adapters",
    "shown_leaves",
    "stack_axes",
    "stack_layers",
    "unstack_layers",
    "used_params",
]
