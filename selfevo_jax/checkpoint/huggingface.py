"""Hugging Face checkpoints: a folder of config.json and safetensors, read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from selfevo_jax.checkpoint.huggingface_config import config_from_huggingface
from selfevo_jax.checkpoint.weights import (
    Foreign,
    Reader,
    check_tensors,
    foreign_tensors,
    load_tree,
    safetensors_shapes,
)
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig
from selfevo_jax.untrusted import is_plain_name, read_object, reading

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

Held = dict[str, tuple[Path, tuple[int, ...]]]
"""Tensor name -> the file that holds it, and its shape."""


def _tensors(folder: Path) -> Held:
    """Tensor name -> the safetensors file that holds it, and its shape, by the files' own headers.

    With an index the files are those that it names, else model.safetensors, else all. Raises ModelError where that is
    not the whole of one model: an index that says otherwise than its files, or another model beside it.
    """
    index = folder / INDEX
    if not index.is_file():
        single = folder / SINGLE
        files = [single] if single.is_file() else [f for f in sorted(folder.glob("*.safetensors")) if f.is_file()]
        if not files:
            raise ModelError(
                f"{folder}: config.json but no .safetensors file; save the model with transformers' "
                "save_pretrained(..., safe_serialization=True)"
            )
        return _alone(folder, _held(files))
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(map(is_plain_name, weight_map.values())):
        raise ModelError(f"{index}: 'weight_map' must name, for each tensor, a file beside it; fetch it again")
    files = [folder / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{file}: named in {INDEX}, but not there; fetch the checkpoint again")
    held = _held(files)
    for name in sorted(weight_map.keys() | held.keys()):
        wanted, found = weight_map.get(name, "no file"), held[name][0].name if name in held else "none of its files"
        if wanted != found:
            raise ModelError(f"{index}: has tensor '{name}' in {wanted}, but it is in {found}; fetch both again")
    return _alone(folder, held)


def _alone(folder: Path, held: Held) -> Held:
    """What was found, where no other model is in the folder."""
    files = {file for file, _ in held.values()}
    for other in sorted(folder.glob("model*.safetensors")):
        if other not in files:
            raise ModelError(f"{folder}: {other.name} is no part of the model in {min(files).name}; remove one of them")
    return held


def _held(files: Sequence[Path]) -> Held:
    held: Held = {}
    for file in files:
        for name, shape in safetensors_shapes(file).items():
            if name in held:
                raise ModelError(f"{file}: tensor '{name}' is in {held[name][0].name} too; remove one of the files")
            held[name] = file, shape
    if not held:
        raise ModelError(f"{files[0]}: holds no tensor; fetch it again")
    return held


def files_of(folder: Path) -> list[Path]:
    """config.json, the index where there is one, and the safetensors files that the model is read from."""
    described = [folder / "config.json", folder / INDEX]
    return [*filter(Path.is_file, described), *sorted({file for file, _ in _tensors(folder).values()})]


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
    held = _tensors(folder)
    files = {name: file for name, (file, _) in held.items()}
    tensors = foreign_tensors(config)
    names = {tensor.name: tensor.foreign_shape for tensor in tensors.values()}
    if not config.tie_embeddings and _HEAD not in files:
        raise ModelError(f"{file}: tie_word_embeddings is false, but there is no tensor '{_HEAD}'; correct one of them")
    check_tensors(
        folder,
        names,
        {name: shape for name, (_, shape) in held.items()},
        lambda n: n == _HEAD or n.endswith("rotary_emb.inv_freq"),
    )
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
