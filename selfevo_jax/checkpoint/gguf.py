"""GGUF files: metadata to a config, quantized tensors to parameters, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from selfevo_jax.checkpoint.gguf_config import ROPE, config_from_gguf
from selfevo_jax.checkpoint.weights import Foreign, Reader, check_tensors, foreign_shapes, foreign_tensors, load_tree
from selfevo_jax.errors import ModelError
from selfevo_jax.lazy import extra
from selfevo_jax.model import ModelConfig
from selfevo_jax.text.gguf_header import read_gguf_fields
from selfevo_jax.untrusted import reading

ROTATED = ("attention.q.kernel", "attention.k.kernel", "attention.q.bias", "attention.k.bias")
"""Leaves whose rows llama.cpp's files of Llama hold in the order of their own rotary positions."""
_SUPPORTED = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"),
)
"""Kinds of tensors: a file of Q4_K_M, say, holds Q4_K and Q6_K, and Q5_0 where a row is no multiple of 256."""


def gguf_package() -> Any:
    """Raises ModelError where it is not installed."""
    return extra("gguf", "gguf", "gguf", lambda problem: ModelError(f"a GGUF file {problem}"))


def read_gguf(path: str | Path) -> tuple[ModelConfig, Callable[[Any, Any], Any]]:
    """Config and loader of a GGUF file; the loader takes (shardings or None, dtype) and dequantizes.

    The file is mapped, not read; one tensor at a time is dequantized (the kinds of `_SUPPORTED`).

    Raises:
      ModelError: no package gguf, an unreadable file, an unsupported architecture or kind of quantization.
    """
    gguf, path = gguf_package(), Path(path)
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

    # GGUF lists a tensor's sizes innermost first
    found = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in stored.items()}
    factors = values(ROPE) if ROPE in stored else None
    with reading(path, "model config"):
        config, kind = config_from_gguf(path, fields, found, factors)
    tensors = foreign_tensors(config, gguf=True)
    check_tensors(path, foreign_shapes(tensors), found, lambda name: name == ROPE)

    def load(shardings: Any, dtype: Any) -> Any:
        readers = {name: _reader(values, tensor, name, kind) for name, tensor in tensors.items()}
        return load_tree(config, readers, shardings, dtype)

    return config, load


def _reader(values: Callable[[str], np.ndarray], tensor: Foreign, name: str, kind: str) -> Reader:
    """Llama files hold q and k, biases too, with the two halves of each head interleaved (for their rotary order)."""
    heads = None
    if kind == "llama" and name.endswith(ROTATED):
        heads = tensor.shape[-2]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        array = values(tensor.name)
        if heads is not None:
            array = array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        return tensor.piece(array, index)

    return read
