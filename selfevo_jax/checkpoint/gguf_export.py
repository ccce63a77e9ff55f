"""A model written as a GGUF file, for llama.cpp: its metadata, its tokenizer, and its tensors, one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from selfevo_jax.checkpoint.gguf import ROTATED, gguf_package
from selfevo_jax.checkpoint.gguf_config import ROPE, rope_factors
from selfevo_jax.checkpoint.weights import flatten, foreign_tensors
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig
from selfevo_jax.text import BaseTokenizer, gguf_fields

_WRITTEN = (
    *("vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "max_position", "rope_theta"),
    *("rope_scaling", "norm_eps", "tie_embeddings", "qkv_bias", "qk_norm"),
)
"""What a file says of a model; all else is as in a model that says nothing of it."""
_KINDS = {"float32": ("F32", "ALL_F32"), "float16": ("F16", "MOSTLY_F16"), "bfloat16": ("BF16", "MOSTLY_BF16")}
"""Dtype -> the kind of its matrices, and that of the file. Norms and biases are fp32, as llama.cpp wants them."""


def check_gguf(config: ModelConfig) -> None:
    """Raises ModelError where no file of this model can be written: no package gguf, or no counterpart there."""
    gguf_package()
    _architecture(config)


def write_gguf(
    path: Path, params: Any, config: ModelConfig, tokenizer: BaseTokenizer, name: str, stop_ids: Sequence[int] = ()
) -> None:
    """Writes a file that is not there yet. One process calls it; it holds one tensor at a time.

    Args:
      params: of `config`, in the dtype of the matrices in the file.
      tokenizer: the model's.
      name: of the model, in the metadata.
      stop_ids: ids that end a text as the model was trained, beside the tokenizer's own.

    Raises ModelError: no package gguf, or a model or tokenizer that has no counterpart there.
    """
    gguf = gguf_package()
    kind = _architecture(config)
    fields = _facts(config, kind) | gguf_fields(tokenizer, config.vocab_size, stop_ids)
    leaves = flatten(params)
    matrix, whole = _KINDS[str(leaves["embedding"].dtype)]
    writer = gguf.GGUFWriter(path, kind)
    try:
        writer.add_name(name)
        writer.add_file_type(getattr(gguf.LlamaFileType, whole))
        add_fields(writer, fields)
        kinds = gguf.GGMLQuantizationType
        for tensor, array in _arrays(leaves, config, kind):
            stored = kinds[matrix] if array.ndim > 1 else kinds.F32
            writer.add_tensor_info(tensor, array.shape, np.dtype(np.float32), array.nbytes, stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, array in _arrays(leaves, config, kind):
            writer.write_tensor_data(array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array)
    finally:
        writer.close()


def add_fields(writer: Any, fields: Mapping[str, Any]) -> None:
    """Puts metadata into a writer of the package gguf."""
    for key, value in fields.items():
        _ADDERS[type(value)](writer)(key, value)


_ADDERS: dict[type, Any] = {
    str: lambda writer: writer.add_string,
    bool: lambda writer: writer.add_bool,
    int: lambda writer: writer.add_uint32,
    float: lambda writer: writer.add_float32,
    list: lambda writer: writer.add_array,
    bytes: lambda writer: writer.add_array,
}


def _architecture(config: ModelConfig) -> str:
    plain = ModelConfig(**{name: getattr(config, name) for name in _WRITTEN})
    names = (field.name for field in dataclasses.fields(config))
    if other := [name for name in names if getattr(config, name) != getattr(plain, name)]:
        raise ModelError(f"export: GGUF files of models with {', '.join(other)} are not written; leave --gguf out")
    return "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias else "llama"


def _facts(config: ModelConfig, kind: str) -> dict[str, Any]:
    """The metadata of the architecture, as `config_from_gguf` reads it."""
    facts: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position,
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.d_ff,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.n_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.norm_eps),
        "rope.freq_base": float(config.rope_theta),
    }
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "linear":
        facts |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
    return {f"{kind}.{key}": value for key, value in facts.items()}


def _arrays(leaves: dict[str, Any], config: ModelConfig, kind: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content of each tensor, in one order."""
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        factors = rope_factors(config.head_dim, config.rope_theta, config.rope_scaling)
        yield ROPE, np.asarray(factors, np.float32)
    for name, tensor in foreign_tensors(config, gguf=True).items():
        array = tensor.foreign(np.asarray(leaves[name]))
        if kind == "llama" and name.endswith(ROTATED):
            rows = array.reshape(tensor.shape[-2], 2, -1, *array.shape[1:])
            array = np.ascontiguousarray(rows.swapaxes(1, 2).reshape(array.shape))
        yield tensor.name, array if array.ndim > 1 else array.astype(np.float32)
