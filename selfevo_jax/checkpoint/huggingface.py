"""Hugging Face checkpoints: a folder of config.json and safetensors, read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

from selfevo_jax.checkpoint.huggingface_config import config_from_huggingface, has_images
from selfevo_jax.checkpoint.weights import (
    Foreign,
    Reader,
    check_tensors,
    foreign_shapes,
    foreign_tensors,
    load_tree,
    safetensors_shapes,
)
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig
from selfevo_jax.untrusted import is_plain_name, read_object, reading

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

_TEXT_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "lm_head.": "lm_head.",
}
"""Of models of text and images, in the order to look for them: older files have the first ones."""


class Stored(NamedTuple):
    """A tensor of a file."""

    file: Path
    name: str
    shape: tuple[int, ...]


Held = dict[str, Stored]
"""By the tensors' names."""


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
        wanted, found = weight_map.get(name, "no file"), held[name].file.name if name in held else "none of its files"
        if wanted != found:
            raise ModelError(f"{index}: has tensor '{name}' in {wanted}, but it is in {found}; fetch both again")
    return _alone(folder, held)


def _alone(folder: Path, held: Held) -> Held:
    """What was found, where no other model is in the folder."""
    files = {stored.file for stored in held.values()}
    for other in sorted(folder.glob("model*.safetensors")):
        if other not in files:
            raise ModelError(f"{folder}: {other.name} is no part of the model in {min(files).name}; remove one of them")
    return held


def _held(files: Sequence[Path]) -> Held:
    held: Held = {}
    for file in files:
        for name, shape in safetensors_shapes(file).items():
            if name in held:
                raise ModelError(f"{file}: tensor '{name}' is in {held[name].file.name} too; remove one of the files")
            held[name] = Stored(file, name, shape)
    if not held:
        raise ModelError(f"{files[0]}: holds no tensor; fetch it again")
    return held


def files_of(folder: Path) -> list[Path]:
    """config.json, the index where there is one, and the safetensors files that the model is read from."""
    described = [folder / "config.json", folder / INDEX]
    return [*filter(Path.is_file, described), *sorted({stored.file for stored in _tensors(folder).values()})]


def _reader(held: Held, tensor: Foreign) -> Reader:
    def read(index: tuple[slice, ...]) -> np.ndarray:
        with contextlib.ExitStack() as opened:
            files: dict[Path, Any] = {}

            def get(name: str) -> Any:
                stored = held[name]
                if stored.file not in files:
                    files[stored.file] = opened.enter_context(safe_open(stored.file, "np"))
                return files[stored.file].get_slice(stored.name)

            return tensor.read(get, index)

    return read


def _of_text(held: Held) -> Held:
    """The tensors of the part for text of a model of text and images, under the names of a model of text alone."""
    found = {}
    for name, stored in held.items():
        for prefix, own in _TEXT_PREFIXES.items():
            if name.startswith(prefix):
                found[own + name.removeprefix(prefix)] = stored
                break
    return found


def read_huggingface(folder: str | Path) -> tuple[ModelConfig, Callable[[Any, Any], Any]]:
    """Config and loader of a Hugging Face folder; the loader takes (shardings or None, dtype).

    Names and shapes are checked here, from the headers alone; the loader reads each tensor's pieces to their shards.

    Raises:
      ModelError: an unsupported config, or tensors that do not agree with it.
    """
    folder = Path(folder)
    file = folder / "config.json"
    with reading(file, "model config"):
        tree = read_object(file)
        config = config_from_huggingface(tree, file)
    held = _tensors(folder)
    if has_images(tree):
        held = _of_text(held)
    tensors = foreign_tensors(config)
    if not config.tie_embeddings and _HEAD not in held:
        raise ModelError(f"{file}: tie_word_embeddings is false, but there is no tensor '{_HEAD}'; correct one of them")
    check_tensors(
        folder,
        foreign_shapes(tensors),
        {name: stored.shape for name, stored in held.items()},
        lambda n: n == _HEAD or n.endswith("rotary_emb.inv_freq"),
    )
    if config.tie_embeddings and _HEAD in held and not _equal(held[_HEAD], held[_EMBEDDING]):
        raise ModelError(
            f"{file}: tie_word_embeddings is true, but '{_HEAD}' differs from the embedding; "
            "set tie_word_embeddings to false if the head is the trained one, else remove the tensor"
        )

    def load(shardings: Any, dtype: Any) -> Any:
        readers = {name: _reader(held, tensor) for name, tensor in tensors.items()}
        return load_tree(config, readers, shardings, dtype)

    return config, load


def _equal(one: Stored, other: Stored, rows: int = 4096) -> bool:
    with safe_open(one.file, "np") as a, safe_open(other.file, "np") as b:
        first, second = a.get_slice(one.name), b.get_slice(other.name)
        if first.get_shape() != second.get_shape():
            return False
        length = first.get_shape()[0]
        return all(
            np.array_equal(first[i : min(i + rows, length)], second[i : min(i + rows, length)])
            for i in range(0, length, rows)
        )
