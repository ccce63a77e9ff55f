"""Weights on their way from files to shards: one tensor at a time, each device reading its own piece."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import safe_open

from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, abstract_params
from selfevo_jax.untrusted import reading

_DTYPES = ("F64", "F32", "F16", "BF16")
Index = tuple[slice, ...]
Reader = Callable[[Index], np.ndarray]
"""Returns the piece of a parameter (in this package's layout) at an index, in any dtype."""


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {"layers_0.attention.q.kernel": leaf, ...}."""
    if not isinstance(tree, Mapping):
        return {prefix[:-1]: tree}
    return {name: leaf for key, value in tree.items() for name, leaf in flatten(value, f"{prefix}{key}.").items()}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def load_tree(config: ModelConfig, readers: Mapping[str, Reader], shardings: Any, dtype: Any) -> Any:
    """Parameters of `config` from one reader a leaf. `shardings` is a pytree of NamedSharding or None (one device).

    The host holds one tensor at a time: a leaf is on its devices before the next one is read.
    """
    return load_leaves(abstract_params(config, dtype), readers, shardings)


def load_leaves(abstract: Any, readers: Mapping[str, Reader], shardings: Any) -> Any:
    """`load_tree` of any nested dict of ShapeDtypeStruct."""
    wanted = flatten(abstract)
    where = {} if shardings is None else flatten(shardings)
    loaded = {}
    for name, leaf in wanted.items():
        loaded[name] = _place(leaf, readers[name], where.get(name))
        jax.block_until_ready(loaded[name])
    return unflatten(loaded)


def _place(leaf: jax.ShapeDtypeStruct, read: Reader, sharding: Any) -> jax.Array:
    if sharding is None:
        return jax.device_put(_fresh(read(tuple(slice(0, n) for n in leaf.shape)), leaf.dtype))
    last: dict[tuple[Any, ...], np.ndarray] = {}  # replicas ask for the same piece one after the other

    def piece(index: Index | None) -> np.ndarray:
        index = tuple(slice(*s.indices(n)) for s, n in zip(index or (), leaf.shape, strict=True))
        key = tuple((s.start, s.stop) for s in index)
        if key not in last:
            last.clear()
            last[key] = _fresh(read(index), leaf.dtype)
        return last[key]

    return jax.make_array_from_callback(leaf.shape, sharding, piece)


def _fresh(array: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy that owns its memory: JAX may keep it, and the file behind `array` is closed soon."""
    return np.array(array, dtype=dtype, order="C")


@dataclass(frozen=True)
class Foreign:
    """How a parameter lies in a foreign file.

    `inputs` is None for a tensor in the same order as here, 0 for a vector that folds all our axes; else the file holds
    a matrix `[outputs, inputs]`, and our first `inputs` axes are its columns.
    """

    name: str
    shape: tuple[int, ...]
    inputs: int | None
    experts: bool = False
    """Our first axis is that of experts: each has a tensor of its own, whose number stands for `{}` in the name."""

    @functools.cached_property
    def tensors(self) -> tuple[Foreign, ...]:
        """One for each tensor of the file."""
        if not self.experts:
            return (self,)
        return tuple(Foreign(self.name.format(i), self.shape[1:], self.inputs) for i in range(self.shape[0]))

    @property
    def foreign_shape(self) -> tuple[int, ...]:
        """Of one tensor."""
        if self.inputs is None:
            return self.shape
        if self.inputs == 0:
            return (math.prod(self.shape),)
        return (math.prod(self.shape[self.inputs :]), math.prod(self.shape[: self.inputs]))

    def read(self, get: Callable[[str], Any], index: Index) -> np.ndarray:
        """The piece at our `index`; `get` gives a tensor by its name, to be sliced like an array of its shape."""
        if not self.experts:
            return self.piece(get(self.name), index)
        return np.stack([one.piece(get(one.name), index[1:]) for one in self.tensors[index[0]]])

    def written(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Our whole array as the tensors of the file, by their names."""
        arrays = array if self.experts else [array]
        return {one.name: one.foreign(each) for one, each in zip(self.tensors, arrays, strict=True)}

    def piece(self, tensor: Any, index: Index) -> np.ndarray:
        """The piece at our `index` of the one `tensor`."""
        if self.inputs is None:
            return np.asarray(tensor[index])
        if self.inputs == 0:
            rows, shape, rest = _lead(index, self.shape)
            return np.asarray(tensor[rows]).reshape(shape)[(slice(None), *rest)]
        columns, in_shape, in_rest = _lead(index[: self.inputs], self.shape[: self.inputs])
        rows, out_shape, out_rest = _lead(index[self.inputs :], self.shape[self.inputs :])
        block = np.asarray(tensor[rows, columns]).T.reshape(in_shape + out_shape)
        return block[(slice(None), *in_rest, slice(None), *out_rest)]

    def foreign(self, array: np.ndarray) -> np.ndarray:
        """Our whole array of one tensor in the foreign order."""
        if not self.inputs:
            return np.ascontiguousarray(array.reshape(self.foreign_shape))
        return np.ascontiguousarray(array.reshape(self.foreign_shape[::-1]).T)


def foreign_shapes(tensors: Mapping[str, Foreign]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a file that holds a model."""
    return {one.name: one.foreign_shape for tensor in tensors.values() for one in tensor.tensors}


def _lead(index: Index, sizes: tuple[int, ...]) -> tuple[slice, tuple[int, ...], Index]:
    """Axes folded into one: the slice of it that covers `index`, its unfolded shape, and what is left to cut."""
    inner = math.prod(sizes[1:])
    start, stop, _ = index[0].indices(sizes[0])
    return slice(start * inner, stop * inner), (stop - start, *sizes[1:]), index[1:]


_LEAVES: dict[str, tuple[str, str, int | None]] = {
    "attention_norm.scale": ("input_layernorm.weight", "attn_norm.weight", None),
    "mlp_norm.scale": ("post_attention_layernorm.weight", "ffn_norm.weight", None),
    "attention.q.kernel": ("self_attn.q_proj.weight", "attn_q.weight", 1),
    "attention.k.kernel": ("self_attn.k_proj.weight", "attn_k.weight", 1),
    "attention.v.kernel": ("self_attn.v_proj.weight", "attn_v.weight", 1),
    "attention.o.kernel": ("self_attn.o_proj.weight", "attn_output.weight", 2),
    "attention.q.bias": ("self_attn.q_proj.bias", "attn_q.bias", 0),
    "attention.k.bias": ("self_attn.k_proj.bias", "attn_k.bias", 0),
    "attention.v.bias": ("self_attn.v_proj.bias", "attn_v.bias", 0),
    "attention.q_norm.scale": ("self_attn.q_norm.weight", "attn_q_norm.weight", None),
    "attention.k_norm.scale": ("self_attn.k_norm.weight", "attn_k_norm.weight", None),
    "mlp.gate.kernel": ("mlp.gate_proj.weight", "ffn_gate.weight", 1),
    "mlp.up.kernel": ("mlp.up_proj.weight", "ffn_up.weight", 1),
    "mlp.down.kernel": ("mlp.down_proj.weight", "ffn_down.weight", 1),
}
_POST_NORMS: dict[str, tuple[str, str, int | None]] = {
    "post_attention_norm.scale": ("post_attention_layernorm.weight", "", None),
    "mlp_norm.scale": ("pre_feedforward_layernorm.weight", "", None),
    "post_mlp_norm.scale": ("post_feedforward_layernorm.weight", "", None),
}
"""Where each layer has four norms."""
_QWEN_EXPERTS = {
    "mlp.router": "mlp.gate.weight",
    "mlp.gate.kernel": "mlp.experts.{}.gate_proj.weight",
    "mlp.up.kernel": "mlp.experts.{}.up_proj.weight",
    "mlp.down.kernel": "mlp.experts.{}.down_proj.weight",
}
_MIXTRAL_EXPERTS = {
    "mlp.router": "block_sparse_moe.gate.weight",
    "mlp.gate.kernel": "block_sparse_moe.experts.{}.w1.weight",
    "mlp.up.kernel": "block_sparse_moe.experts.{}.w3.weight",
    "mlp.down.kernel": "block_sparse_moe.experts.{}.w2.weight",
}
_OUTER: dict[str, tuple[str, str, int | None]] = {
    "embedding": ("model.embed_tokens.weight", "token_embd.weight", None),
    "final_norm.scale": ("model.norm.weight", "output_norm.weight", None),
    "head.kernel": ("lm_head.weight", "output.weight", 1),
}


def foreign_tensors(config: ModelConfig, gguf: bool = False) -> dict[str, Foreign]:
    """Our leaf name -> where it lies in a Hugging Face checkpoint, or in a GGUF file.

    Raises ModelError for a model of a family that GGUF is not known of here.
    """
    if gguf and (config.post_norms or config.n_experts):
        family = "Gemma" if config.post_norms else "mixtures of experts"
        raise ModelError(f"GGUF files of {family} are not supported; use the model's folder with safetensors")
    leaves = _LEAVES | (_POST_NORMS if config.post_norms else {})
    experts = (_QWEN_EXPERTS if config.qk_norm else _MIXTRAL_EXPERTS) if config.n_experts else {}
    leaves |= {name: (hf, "", 1) for name, hf in experts.items()}
    tensors = {}
    for name, leaf in flatten(abstract_params(config)).items():
        first, _, inner = name.partition(".")
        if first.startswith("layers_"):
            hf, ggml, inputs = leaves[inner]
            number = first.removeprefix("layers_")
            foreign = f"blk.{number}.{ggml}" if gguf else f"model.layers.{number}.{hf}"
        else:
            hf, ggml, inputs = _OUTER[name]
            foreign = ggml if gguf else hf
        tensors[name] = Foreign(foreign, leaf.shape, inputs, "{}" in foreign)
    return tensors


def safetensors_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors of a file, from its header. Raises ModelError: unreadable, or no such numbers."""
    shapes = {}
    with reading(file, "safetensors file"), safe_open(file, "np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            part = tensors.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise ModelError(
                    f"{file}: tensor '{name}' is {part.get_dtype()}; supported: {', '.join(_DTYPES)}; convert the model"
                )
            shapes[name] = tuple(part.get_shape())
    return shapes


def check_tensors(
    origin: object,
    wanted: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    ignored: Callable[[str], bool] = lambda name: False,
) -> None:
    """Raises ModelError on a missing tensor, one of another shape, or one that the model has no place for."""
    for name, shape in wanted.items():
        if name not in found:
            raise ModelError(f"{origin}: tensor '{name}' is missing; fetch the checkpoint again")
        if found[name] != shape:
            raise ModelError(f"{origin}: tensor '{name}' has shape {found[name]}, its config says {shape}")
    extra = sorted(name for name in found if name not in wanted and not ignored(name))
    if extra:
        raise ModelError(
            f"{origin}: {len(extra)} tensors have no place in this architecture, the first is '{extra[0]}'; "
            "such a model is not supported"
        )
