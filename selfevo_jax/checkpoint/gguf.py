"""GGUF files: metadata to a config, quantized tensors to parameters, one at a time."""

from __future__ import annotations

import dataclasses
import importlib
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from selfevo_jax.checkpoint.weights import Foreign, Reader, check_tensors, foreign_tensors, load_tree
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, RopeScaling
from selfevo_jax.model.attention import rope_frequencies
from selfevo_jax.text.gguf_header import read_gguf_fields
from selfevo_jax.untrusted import reading

_KINDS = ("llama", "qwen2", "qwen3")
_HEAD, _EMBEDDING, _ROPE = "output.weight", "token_embd.weight", "rope_freqs.weight"
_SUPPORTED = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0")


def _package() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise ModelError(
            "a GGUF file needs the package gguf; install it with: pip install 'selfevo-jax[gguf]'"
        ) from error


def read_gguf(path: str | Path) -> tuple[ModelConfig, Callable[[Any, Any], Any]]:
    """Config and loader of a GGUF file; the loader takes (shardings or None, dtype) and dequantizes.

    The file is mapped, not read; one tensor at a time is dequantized (Q4_0, Q4_1, Q8_0, F16, BF16, F32).

    Raises:
      ModelError: no package gguf, an unreadable file, an unsupported architecture or kind of quantization.
    """
    gguf, path = _package(), Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    fields = read_gguf_fields(path)  # first: it has bounds, which the package's reader has not
    with reading(path, "GGUF file"):
        reader = gguf.GGUFReader(path)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for tensor in reader.tensors:
        if tensor.tensor_type.name not in _SUPPORTED:
            raise ModelError(
                f"{path}: tensor '{tensor.name}' is {tensor.tensor_type.name}; supported: {', '.join(_SUPPORTED)}"
            )

    def values(name: str) -> np.ndarray:
        tensor = stored[name]
        return np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type))

    factors = values(_ROPE) if _ROPE in stored else None
    with reading(path, "model config"):
        config, kind = _config(path, fields, stored, factors)
    # GGUF lists a tensor's sizes innermost first
    found = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in stored.items()}
    tensors = foreign_tensors(config, gguf=True)
    names = {tensor.name: tensor.foreign_shape for tensor in tensors.values()}
    check_tensors(path, names, found, lambda name: name == _ROPE)

    def load(shardings: Any, dtype: Any) -> Any:
        readers = {name: _reader(values, tensor, name, kind) for name, tensor in tensors.items()}
        return load_tree(config, readers, shardings, dtype)

    return config, load


def _reader(values: Callable[[str], np.ndarray], tensor: Foreign, name: str, kind: str) -> Reader:
    """Llama files hold q and k with the two halves of each head interleaved (for their own rotary order)."""
    heads = None
    if kind == "llama" and name.endswith(("attention.q.kernel", "attention.k.kernel")):
        heads = tensor.shape[1]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        array = values(tensor.name)
        if heads is not None:
            array = array.reshape(heads, -1, 2, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        return tensor.piece(array, index)

    return read


def _config(
    path: Path, fields: dict[str, Any], stored: dict[str, Any], factors: np.ndarray | None
) -> tuple[ModelConfig, str]:
    get = fields.get
    kind = get("general.architecture")
    if kind not in _KINDS:
        raise ModelError(f"{path}: architecture {reprlib.repr(kind)} is not supported; supported: {', '.join(_KINDS)}")

    def need(key: str) -> Any:
        value = get(f"{kind}.{key}")
        if value is None:
            raise ModelError(f"{path}: metadata '{kind}.{key}' is missing; convert the model to GGUF again")
        return value

    if get(f"{kind}.expert_count"):
        raise ModelError(f"{path}: mixtures of experts are not supported")
    if _EMBEDDING not in stored:
        raise ModelError(f"{path}: tensor '{_EMBEDDING}' is missing")
    width, heads = int(need("embedding_length")), int(need("attention.head_count"))
    if heads < 1:
        raise ModelError(f"{path}: metadata '{kind}.attention.head_count' is {heads}, expected 1 or more")
    head_dim = int(get(f"{kind}.attention.key_length") or width // heads)
    theta = float(get(f"{kind}.rope.freq_base", 10000.0))
    rotated = int(get(f"{kind}.rope.dimension_count") or head_dim)
    if rotated != head_dim:
        raise ModelError(f"{path}: rotary positions on {rotated} of {head_dim} dimensions are not supported")
    config = ModelConfig(
        vocab_size=int(stored[_EMBEDDING].shape[1]),
        d_model=width,
        n_layers=int(need("block_count")),
        n_heads=heads,
        n_kv_heads=int(get(f"{kind}.attention.head_count_kv") or heads),
        head_dim=head_dim,
        d_ff=int(need("feed_forward_length")),
        max_position=int(get(f"{kind}.context_length", 2048)),
        rope_theta=theta,
        rope_scaling=_scaling(path, get, kind, factors, theta, head_dim),
        # stored as fp32: 1e-5 comes back as 9.99999974e-06
        norm_eps=float(f"{float(get(f'{kind}.attention.layer_norm_rms_epsilon', 1e-5)):.6g}"),
        tie_embeddings=_HEAD not in stored,
        qkv_bias="blk.0.attn_q.bias" in stored,
        qk_norm="blk.0.attn_q_norm.weight" in stored,
        sliding_window=get(f"{kind}.attention.sliding_window") or None,
    )
    return config, kind


def _scaling(
    path: Path, get: Callable[..., Any], kind: str, factors: np.ndarray | None, theta: float, head_dim: int
) -> RopeScaling | None:
    """Llama 3's scaling is stored as one divisor a frequency: found again from the largest, and compared."""
    if factors is not None:
        scaling = RopeScaling("llama3", float(np.max(factors)))
        plain = ModelConfig(1, 1, 1, 1, 1, head_dim, 1, rope_theta=theta)
        scaled = dataclasses.replace(plain, rope_scaling=scaling)
        if not np.allclose(rope_frequencies(plain) / rope_frequencies(scaled), factors, rtol=1e-3):
            raise ModelError(f"{path}: '{_ROPE}' is not Llama 3's scaling, and no other is supported")
        return scaling
    name = get(f"{kind}.rope.scaling.type", "none")
    if name == "none":
        return None
    if name == "linear":
        return RopeScaling("linear", float(get(f"{kind}.rope.scaling.factor", 1.0)))
    raise ModelError(f"{path}: rope scaling '{name}' is not supported; supported: none, linear")
