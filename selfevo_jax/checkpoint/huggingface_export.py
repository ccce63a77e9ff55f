"""A model written as a Hugging Face folder: config.json, generation_config.json, safetensors and the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors.numpy import save_file

from selfevo_jax import hosts
from selfevo_jax.checkpoint.huggingface import INDEX, SINGLE
from selfevo_jax.checkpoint.huggingface_config import config_to_huggingface
from selfevo_jax.checkpoint.weights import flatten, foreign_tensors
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig
from selfevo_jax.text import GENERATION, BaseTokenizer, check_exported, exported_tokenizer, generation_config


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
        arrays = {n: x for name in group for n, x in tensors[name].written(_whole(leaves[name])).items()}
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
        return files, generation.get("bos_token_id"), generation.get("eos_token_id", [])
    if "tokenizer.model" in tokenizer and "tokenizer.json" not in tokenizer:
        raise ModelError("export: transformers reads a tokenizer.model with other ids; give the tokenizer itself")
    return {GENERATION: generation_config(bos_id, list(eos_ids)), **tokenizer}, bos_id, list(eos_ids)


def _whole(leaf: Any) -> np.ndarray:
    """The array of all shards; a collective when other processes hold some."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)
