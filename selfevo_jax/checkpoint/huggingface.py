"""Hugging Face checkpoints: a folder of config.json and safetensors, in and out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors import safe_open
from safetensors.numpy import save_file

from selfevo_jax import hosts
from selfevo_jax.checkpoint.huggingface_config import config_from_huggingface, config_to_huggingface
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
from selfevo_jax.model import ModelConfig
from selfevo_jax.text import BaseTokenizer, check_exported, exported_tokenizer
from selfevo_jax.untrusted import is_plain_name, read_object, reading

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
GENERATION = "generation_config.json"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

Held = dict[str, tuple[Path, tuple[int, ...]]]
"""Tensor name -> the file that holds it, and its shape."""


def _tensors(folder: Path) -> Held:
    """Tensor name -> the safetensors file that holds it, and its shape, by the files' own headers.

    With an index the files are those that it names, else model.safetensors, else all. Raises ModelError where that is
    not the whole of one model: an index that says otherwise than its files, or another model beside it.
    """
    index = folder / INDEX
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: adapters of PEFT are not read; merge them with their model (merge_and_unload)")
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


def export_huggingface(
    params: Any,
    config: ModelConfig,
    tokenizer: BaseTokenizer | Mapping[str, bytes],
    out_dir: str | Path,
    *,
    bos_id: int | None = None,
    eos_ids: Sequence[int] = (),
    max_shard_bytes: int = 2 << 30,
) -> None:
    """Writes config.json, generation_config.json, safetensors in the parameters' own dtype, and the tokenizer.

    A tied head is not written, and config.json says that it is tied. The host holds one file's tensors at a time.
    Every process calls it; process 0 writes.

    Args:
      params: of `config`, on any mesh.
      tokenizer: the model's; it is written as a tokenizer.json, whose ids of many texts are compared with its own. Or
        the content of the files by their names, which are written as they are.
      out_dir: a folder without a model.
      bos_id: where `tokenizer` does not say it.
      eos_ids: all ids that end a text as the model was trained, beside the tokenizer's own.
      max_shard_bytes: of one file of weights, where a tensor is not larger.

    Raises:
      ModelError: a model exists there already, a tokenizer that `transformers` would read with other ids, or an id
        that the model does not have.
    """
    out = Path(out_dir)
    if hosts.agree(f"exporting to {out.name}", lambda: _has_model(out)):
        raise ModelError(f"{out}: a model exists here already; choose another folder")
    files, bos_id, eos_ids = _text_files(tokenizer, bos_id, eos_ids)
    for id in (*eos_ids, *([] if bos_id is None else [bos_id])):
        if not 0 <= id < config.vocab_size:
            raise ModelError(f"export: id {id} is to begin or end a text, but the model has {config.vocab_size} ids")
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
        file = SINGLE if single else f"model-{number:05d}-of-{count:05d}.safetensors"
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
    for name, content in files.items():
        if name != "config.json":
            (out / name).write_bytes(content)
    # last: a folder without config.json is no model
    (out / "config.json").write_text(json.dumps(tree, indent=2) + "\n")
    hosts.barrier(f"the model in {out.name} is written")


def _has_model(folder: Path) -> bool:
    return (folder / "config.json").exists() or any(folder.glob("model*.safetensors*"))


def _text_files(
    tokenizer: BaseTokenizer | Mapping[str, bytes], bos_id: int | None, eos_ids: Sequence[int]
) -> tuple[dict[str, bytes], int | None, list[int]]:
    """The files of a tokenizer, the id that begins a text, and those that end one."""
    if not isinstance(tokenizer, Mapping):
        files = exported_tokenizer(tokenizer, eos_ids)
        check_exported(files, tokenizer)
        generation = json.loads(files[GENERATION])
        return files, generation["bos_token_id"], generation["eos_token_id"]
    if "tokenizer.model" in tokenizer and "tokenizer.json" not in tokenizer:
        raise ModelError("export: transformers reads a tokenizer.model with other ids; give the tokenizer itself")
    generation = {"bos_token_id": bos_id, "eos_token_id": list(eos_ids)}
    return {GENERATION: (json.dumps(generation) + "\n").encode(), **tokenizer}, bos_id, list(eos_ids)


def _whole(leaf: Any) -> np.ndarray:
    """The array of all shards; a collective when other processes hold some."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)
