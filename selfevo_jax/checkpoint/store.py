"""Checkpoints of our own: Orbax arrays beside a small JSON file. A checkpoint is there whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import SingleDeviceSharding

from selfevo_jax import hosts
from selfevo_jax.checkpoint.aside import set_aside
from selfevo_jax.checkpoint.commit import anybody, committing
from selfevo_jax.errors import ModelError, first_line
from selfevo_jax.model import LoraConfig, ModelConfig
from selfevo_jax.sharding import laid_out
from selfevo_jax.storage import is_remote, place, storage_of
from selfevo_jax.untrusted import JSON_BYTES, read_object, reading

# Orbax takes seconds to import, and `--help` needs none of it: it is imported where it is used.

ARRAYS = "params"
METADATA = "metadata.json"
MODEL = "model.json"
ADAPTERS = "adapters.json"
BESIDE = "beside:"
_PARTIAL = ".orbax-checkpoint-tmp"
"""In the name of a folder that Orbax has not finished."""


def absolute(path: epath.PathLike) -> epath.Path:
    """The path of a checkpoint, absolute: Orbax takes no other."""
    folder = epath.Path(place(path))
    return folder if is_remote(folder) else epath.Path(os.path.abspath(folder.expanduser()))


def is_complete(path: epath.PathLike) -> bool:
    """Whether a checkpoint was written here to its end: its arrays are put in their place last."""
    import orbax.checkpoint as ocp

    arrays = absolute(path) / ARRAYS
    return arrays.exists() and bool(ocp.utils.is_checkpoint_finalized(arrays))


def require_complete(path: Path) -> None:
    """Raises ModelError for a checkpoint that was not finished."""
    if not is_complete(path):
        raise ModelError(f"{path}: the checkpoint was not finished ('{ARRAYS}' is missing); use an earlier one")


def save_params(
    path: epath.PathLike,
    params: Any,
    metadata: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
    allowed: Callable[[], None] = anybody,
) -> list[Path]:
    """Writes a pytree of arrays, JSON metadata and small files; returns when all of it is on disk.

    Every process calls it: each writes the arrays that it holds, process 0 the files. Killed at any instant it leaves
    either a complete checkpoint or a folder that `is_complete` refuses; the next save moves what is there of the arrays
    to quarantine, and returns where. `allowed` is called before anything is written, and again before it counts; what
    it raises ends the save.

    Raises:
      ModelError: a complete checkpoint lies there already, or the write failed.
      HostError: a process did not call it; the message names it.
    """
    import orbax.checkpoint as ocp

    root = absolute(path)
    if hosts.agree(f"saving checkpoint {root.name}", lambda: is_complete(root)):
        raise ModelError(f"{root}: a checkpoint lies here already; remove it or choose another folder")
    aside = []
    allowed()
    try:
        if hosts.is_writer():
            root.mkdir(parents=True, exist_ok=True)
            found = sorted(root.iterdir()) if root.exists() else []
            aside = [set_aside(p) for p in found if p.name == ARRAYS or p.name.startswith(f"{ARRAYS}{_PARTIAL}")]
            for name, content in {**(files or {}), METADATA: _json(metadata)}.items():
                storage_of(root).write(place(root / name), content)
        hosts.barrier(f"the files of checkpoint {root.name}")
        with (
            hosts.working(f"writing checkpoint {root.name}"),
            ocp.Checkpointer(
                ocp.PyTreeCheckpointHandler(), temporary_path_class=committing(root, allowed)
            ) as checkpointer,
        ):
            checkpointer.save(root / ARRAYS, args=ocp.args.PyTreeSave(params))
    except (OSError, ValueError) as error:
        raise ModelError(f"{root}: the checkpoint could not be written ({first_line(error)})") from error
    hosts.barrier(f"checkpoint {root.name} is saved")
    return aside


def save_model(
    path: epath.PathLike,
    params: Any,
    config: ModelConfig,
    tokenizer_files: Mapping[str, bytes],
    metadata: Mapping[str, Any] | None = None,
    allowed: Callable[[], None] = anybody,
) -> list[Path]:
    """`save_params` with model.json and the tokenizer beside the arrays, so that `open_model(path)` reads it."""
    return save_params(path, params, metadata or {}, {**tokenizer_files, MODEL: _json(config.to_dict())}, allowed)


def save_adapters(
    path: epath.PathLike,
    adapters: Any,
    lora: LoraConfig,
    of: str,
    config: ModelConfig,
    tokenizer_files: Mapping[str, bytes],
    metadata: Mapping[str, Any] | None = None,
    allowed: Callable[[], None] = anybody,
) -> list[Path]:
    """`save_model` of adapters alone; `open_model(path)` merges them with what they are added to.

    `of` names that: a model source as in `open_model`, or `beside:NAME`, the folder NAME beside this one.
    """
    of = of if ":" in of else os.path.abspath(os.path.expanduser(of))
    files = {**tokenizer_files, MODEL: _json(config.to_dict()), ADAPTERS: _json({"of": of, **asdict(lora)})}
    return save_params(path, adapters, metadata or {}, files, allowed)


def restore_params(path: epath.PathLike, abstract: Any, shardings: Any = None) -> Any:
    """Restores onto any mesh, whatever mesh the checkpoint was saved from. Of several processes, every one calls it.

    Args:
      path: where `save_params` wrote.
      abstract: pytree of ShapeDtypeStruct. Floating numbers are rounded to its dtypes, nothing else is converted.
      shardings: pytree of shardings like `abstract`, or None for the first local device.

    Raises:
      ModelError: no complete checkpoint there, or one of another structure, other shapes, or numbers that the dtypes
        asked for cannot hold.
    """
    import orbax.checkpoint as ocp

    root = absolute(path)
    for where, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise ModelError(f"{root}: '{_name(where)}' is asked for as {leaf!r}, expected a shape and a dtype")
    if not hosts.agree(f"reading checkpoint {root.name}", lambda: is_complete(root)):
        raise ModelError(f"{root}: no finished checkpoint here (it may have been killed while it was written)")
    if blind := hosts.blind(f"looking for checkpoint {root.name}", lambda: is_complete(root)):
        raise ModelError(
            f"{root}: this checkpoint is not seen by {', '.join(map(str, blind))}; put it on storage that all share"
        )
    require_plain(root / ARRAYS)
    if shardings is None:
        one = SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda _: one, abstract)
    target = laid_out(abstract, shardings)
    restore = ocp.args.PyTreeRestore(item=target, restore_args=ocp.checkpoint_utils.construct_restore_args(target))
    failing = jax.errors.JaxRuntimeError  # of devices or other processes: no fault of the files
    with (
        hosts.working(f"reading checkpoint {root.name}"),
        reading(root, "checkpoint", failing),
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
    ):
        compare(root, target, checkpointer.metadata(root / ARRAYS).item_metadata.tree)
        return checkpointer.restore(root / ARRAYS, args=restore)


def read_metadata(path: epath.PathLike) -> dict[str, Any]:
    """The JSON metadata of a complete checkpoint; reads no array. Raises ModelError where there is none."""
    root = absolute(path)
    if not is_complete(root):
        raise ModelError(f"{root}: no finished checkpoint here")
    return read_object(root / METADATA)


def require_plain(folder: epath.Path) -> None:
    """Raises ModelError on what Orbax would wait for or read without end: a pipe, metadata of any size (local disk)."""
    if is_remote(folder):
        return
    for file in Path(folder).rglob("*"):
        if not (file.is_dir() or file.is_file()):
            raise ModelError(f"{file}: not a plain file; fetch the checkpoint again")
        described = file.name.startswith("_") or file.parent.name == "array_metadatas"
        if described and file.is_file() and file.stat().st_size > JSON_BYTES:
            raise ModelError(f"{file}: more than {JSON_BYTES} bytes of metadata; fetch the checkpoint again")


def compare(root: epath.Path, target: Any, stored: Any) -> None:
    """Raises ModelError, naming the leaf, where what is stored does not fit the target: its names, shapes and dtypes.

    `stored` is Orbax's metadata of the same tree. Floating numbers are restored in the floating dtype of the target,
    where that reaches as far (fp32 as bf16); whole numbers in one that holds them all. Nothing else is converted.
    """

    def arrays(tree: Any) -> dict[str, Any]:
        leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: hasattr(node, "shape"))
        return {_name(path): leaf for path, leaf in leaves if hasattr(leaf, "shape")}

    held, asked = arrays(stored), arrays(target)
    found, wanted = ({name: tuple(leaf.shape) for name, leaf in tree.items()} for tree in (held, asked))
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise ModelError(
                f"{root}: '{name}' is {found.get(name, 'absent')} in the checkpoint, the model has "
                f"{wanted.get(name, 'no such parameter')}; it belongs to another model config"
            )
        if not _holds(asked[name].dtype, held[name].dtype):
            raise ModelError(
                f"{root}: '{name}' is {held[name].dtype} in the checkpoint, and {asked[name].dtype} cannot hold its "
                "numbers; restore it in its own dtype"
            )
    for name, leaf in held.items():  # a piece is unpacked whole, however large it says it is
        piece = tuple(getattr(leaf.storage, "chunk_shape", None) or ())
        if math.prod(piece) > max(1, math.prod(found[name])):
            raise ModelError(f"{root}: '{name}' is {found[name]} but stored in pieces of {piece}; fetch it again")


def _holds(dtype: Any, numbers: Any) -> bool:
    """Whether numbers of one dtype stay what they are in another, but for the rounding of floating numbers."""
    if dtype == numbers:
        return True
    if all(jnp.issubdtype(each, jnp.floating) for each in (dtype, numbers)):
        return bool(jnp.finfo(dtype).maxexp >= jnp.finfo(numbers).maxexp)
    whole = all(jnp.issubdtype(each, jnp.integer) for each in (dtype, numbers))
    return whole and np.can_cast(numbers, dtype, "safe")


def _name(path: Any) -> str:
    """One name for a dict key, a field or an index: stored trees are plain dicts and lists."""
    return ".".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path)


def _json(tree: Mapping[str, Any]) -> bytes:
    return (json.dumps(tree, indent=2, sort_keys=True) + "\n").encode()
