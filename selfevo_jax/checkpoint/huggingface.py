"""Hugging Face checkpoints: config.json and safetensors, in and out."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors import safe_open
from safetensors.numpy import save_file

from selfevo_jax import hosts
from selfevo_jax.checkpoint.weights import (
    Foreign,
    Reader,
    check_tensors,
    flatten,
    foreign_tensors,
    load_tree,
    safetensors_shapes,
)
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, RopeScaling
from selfevo_jax.untrusted import is_plain_name, read_object, reading

INDEX = "model.safetensors.index.json"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_KINDS = ("llama", "mistral", "qwen2", "qwen3")
_DEFAULTS: dict[str, dict[str, Any]] = {  # what the architecture says where config.json is silent
    "mistral": {"sliding_window": 4096, "num_key_value_heads": 8},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
}


def config_from_huggingface(tree: Mapping[str, Any], origin: object = "config.json") -> ModelConfig:
    """ModelConfig of a parsed config.json. Raises ModelError naming the key that is not supported."""
    kind = tree.get("model_type")
    if kind not in _KINDS:
        raise ModelError(f"{origin}: model_type {reprlib.repr(kind)} is not supported; supported: {', '.join(_KINDS)}")
    tree = {**_DEFAULTS.get(kind, {}), **tree}

    def refuse(key: str, expected: str) -> NoReturn:
        raise ModelError(f"{origin}: {key} is {reprlib.repr(tree.get(key))}, supported is {expected}")

    def whole(key: str, default: int | None = None) -> int:
        value = tree[key] if default is None else tree.get(key) or default
        if not isinstance(value, int) or value < 1:
            refuse(key, "a whole number from 1")
        return value

    for key in ("mlp_bias", "attention_bias", "quantization_config"):
        if tree.get(key):
            refuse(key, "none")
    if tree.get("partial_rotary_factor", 1.0) != 1.0:
        refuse("partial_rotary_factor", "1.0")
    activations = {"silu": "silu", "gelu_pytorch_tanh": "gelu", "gelu_new": "gelu"}
    if tree.get("hidden_act", "silu") not in activations:
        refuse("hidden_act", " or ".join(activations))
    try:
        width, heads, layers = whole("hidden_size"), whole("num_attention_heads"), whole("num_hidden_layers")
        scaling, theta = _rope(tree, origin)
        return ModelConfig(
            vocab_size=whole("vocab_size"),
            d_model=width,
            n_layers=layers,
            n_heads=heads,
            n_kv_heads=whole("num_key_value_heads", heads),
            head_dim=whole("head_dim", width // heads),
            d_ff=whole("intermediate_size"),
            max_position=whole("max_position_embeddings", 2048),
            rope_theta=theta,
            rope_scaling=scaling,
            norm_eps=float(tree.get("rms_norm_eps", 1e-6)),
            tie_embeddings=bool(tree.get("tie_word_embeddings", False)),
            qkv_bias=kind == "qwen2",
            qk_norm=kind == "qwen3",
            activation="gelu" if activations[tree.get("hidden_act", "silu")] == "gelu" else "silu",
            sliding_window=_window(tree, kind, layers, origin),
        )
    except KeyError as error:
        raise ModelError(f"{origin}: key {error} is missing") from error


def _window(tree: Mapping[str, Any], kind: str, layers: int, origin: object) -> int | None:
    window = tree.get("sliding_window")
    if kind == "llama" or window is None:
        return None
    if kind == "mistral":
        return int(window)
    if not tree.get("use_sliding_window", False):
        return None
    kinds = set(tree.get("layer_types") or ())
    full = int(tree.get("max_window_layers", layers))
    if kinds == {"full_attention"} or (not kinds and full >= layers):
        return None
    if kinds == {"sliding_attention"} or (not kinds and full == 0):
        return int(window)
    raise ModelError(f"{origin}: sliding windows in some layers only (max_window_layers {full}) are not supported")


def _rope(tree: Mapping[str, Any], origin: object) -> tuple[RopeScaling | None, float]:
    """Scaling and base; `rope_parameters` holds both in newer files, `rope_scaling` and `rope_theta` in older ones."""
    rope = {**(tree.get("rope_scaling") or {}), **(tree.get("rope_parameters") or {})}
    theta = float(rope.get("rope_theta") or tree.get("rope_theta") or 10000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None, theta
    if kind == "linear":
        return RopeScaling("linear", float(rope["factor"])), theta
    if kind == "llama3":
        return (
            RopeScaling(
                "llama3",
                float(rope["factor"]),
                float(rope["low_freq_factor"]),
                float(rope["high_freq_factor"]),
                int(rope["original_max_position_embeddings"]),
            ),
            theta,
        )
    raise ModelError(f"{origin}: rope scaling '{kind}' is not supported; supported: default, linear, llama3")


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
        "torch_dtype": dtype,
    }
    if kind != "llama":
        tree["sliding_window"] = config.sliding_window
    if kind.startswith("qwen"):
        tree |= {"use_sliding_window": windowed, "max_window_layers": 0 if windowed else config.n_layers}
    return tree


def _files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the safetensors file that holds it."""
    index = folder / INDEX
    if index.is_file():
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(map(is_plain_name, weight_map.values())):
            raise ModelError(f"{index}: 'weight_map' must name, for each tensor, a file beside it; fetch it again")
        for name in sorted(set(weight_map.values())):
            if not (folder / name).is_file():
                raise ModelError(f"{folder / name}: named in {index.name}, but not there; fetch the checkpoint again")
        return {tensor: folder / name for tensor, name in weight_map.items()}
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if file.is_file():
            files |= dict.fromkeys(safetensors_shapes(file), file)
    if not files:
        raise ModelError(
            f"{folder}: config.json but no .safetensors file; save the model with transformers' "
            "save_pretrained(..., safe_serialization=True)"
        )
    return files


def files_of(folder: Path) -> list[Path]:
    """config.json, the index where there is one, and the safetensors files that the model is read from."""
    described = [folder / "config.json", folder / INDEX]
    return [*filter(Path.is_file, described), *sorted(set(_files(folder).values()))]


def _shapes(files: Mapping[str, Path]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(set(files.values())):
        shapes |= safetensors_shapes(file)
    return shapes


def _reader(file: Path, tensor: Foreign) -> Reader:
    def read(index: tuple[slice, ...]) -> np.ndarray:
        with safe_open(file, "np") as tensors:
            return tensor.piece(tensors.get_slice(tensor.name), index)

    return read


def read_huggingface(folder: str | Path) -> tuple[ModelConfig, Callable[[Any, Any], Any]]:
    """Config and loader of a Hugging Face folder; the loader takes (shardings or None, dtype).

    Names and shapes are checked here, from the headers alone; the loader reads each tensor's pieces to their shards.

    Raises:
      ModelError: an unsupported config, or tensors that do not agree with it.
    """
    folder = Path(folder)
    file = folder / "config.json"
    with reading(file, "model config"):
        config = config_from_huggingface(read_object(file), file)
    files = _files(folder)
    tensors = foreign_tensors(config)
    names = {tensor.name: tensor.foreign_shape for tensor in tensors.values()}
    if not config.tie_embeddings and _HEAD not in files:
        raise ModelError(f"{file}: tie_word_embeddings is false, but there is no tensor '{_HEAD}'; correct one of them")
    check_tensors(folder, names, _shapes(files), lambda n: n == _HEAD or n.endswith("rotary_emb.inv_freq"))
    if config.tie_embeddings and _HEAD in files and not _equal(files, _HEAD, _EMBEDDING):
        raise ModelError(
            f"{file}: tie_word_embeddings is true, but '{_HEAD}' differs from the embedding; "
            "set tie_word_embeddings to false if the head is the trained one, else remove the tensor"
        )

    def load(shardings: Any, dtype: Any) -> Any:
        readers = {name: _reader(files[tensor.name], tensor) for name, tensor in tensors.items()}
        return load_tree(config, readers, shardings, dtype)

    return config, load


def _equal(files: Mapping[str, Path], one: str, other: str, rows: int = 4096) -> bool:
    with safe_open(files[one], "np") as a, safe_open(files[other], "np") as b:
        first, second = a.get_slice(one), b.get_slice(other)
        if first.get_shape() != second.get_shape():
            return False
        length = first.get_shape()[0]
        return all(
            np.array_equal(first[i : min(i + rows, length)], second[i : min(i + rows, length)])
            for i in range(0, length, rows)
        )


def export_huggingface(
    params: Any,
    config: ModelConfig,
    tokenizer_files: Mapping[str, bytes],
    out_dir: str | Path,
    *,
    bos_id: int | None = None,
    eos_ids: Sequence[int] = (),
    max_shard_bytes: int = 2 << 30,
) -> None:
    """Writes config.json, safetensors in the parameters' own dtype, and the tokenizer files.

    A tied head is not written, and config.json says that it is tied. The host holds one file's tensors at a time.
    Every process calls it; process 0 writes. Raises ModelError when `out_dir` holds a model already.
    """
    out = Path(out_dir)
    if hosts.agree(f"exporting to {out.name}", (out / "config.json").exists):
        raise ModelError(f"{out}: a model lies here already; choose another folder")
    leaves, tensors = flatten(params), foreign_tensors(config)
    dtype = str(leaves["embedding"].dtype)
    tree = config_to_huggingface(config, dtype, bos_id, eos_ids)
    groups: list[list[str]] = [[]]
    size = 0
    for name, leaf in leaves.items():
        if groups[-1] and size + leaf.nbytes > max_shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += leaf.nbytes
    single, count = len(groups) == 1, len(groups)
    writes = hosts.is_writer()
    if writes:
        out.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        file = "model.safetensors" if single else f"model-{number:05d}-of-{count:05d}.safetensors"
        arrays = {tensors[name].name: tensors[name].foreign(_whole(leaves[name])) for name in group}
        if writes:
            save_file(arrays, out / file, {"format": "pt"})
        weight_map |= dict.fromkeys(arrays, file)
    if not writes:
        hosts.barrier(f"the model in {out.name} is written")
        return
    if not single:
        total = sum(leaf.nbytes for leaf in leaves.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    for name, content in tokenizer_files.items():
        if name != "config.json":
            (out / name).write_bytes(content)
    # last: a folder without config.json is no model
    (out / "config.json").write_text(json.dumps(tree, indent=2) + "\n")
    hosts.barrier(f"the model in {out.name} is written")


def _whole(leaf: Any) -> np.ndarray:
    """The array of all shards; a collective when other processes hold some."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)
