"""Checkpoints of ours: an Orbax tree of parameters with the model's shape and tokenizer beside it.

NAME/params/...          Orbax, fp32, one layout on disk whatever the mesh
NAME/model.json          ModelConfig
NAME/tokenizer/...       the tokenizer's own files
NAME/metadata.json       written last: a checkpoint without it was never finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, abstract_params

METADATA = "metadata.json"
MODEL = "model.json"
TOKENIZER = "tokenizer"


def is_complete(path: epath.PathLike) -> bool:
    """Whether a finished checkpoint lies at `path`."""
    return (epath.Path(path) / METADATA).exists()


def set_aside(path: epath.PathLike) -> epath.Path | None:
    """Moves what an interrupted save left at `path` out of the way, never deleting it; its new place, or None."""
    place = epath.Path(path)
    if not place.exists() or is_complete(place):
        return None
    number = 1
    while (aside := place.parent / f"{place.name}.unfinished-{number}").exists():
        number += 1
    place.rename(aside)
    return aside


def save_checkpoint(
    path: epath.PathLike,
    params: Any,
    config: ModelConfig,
    tokenizer_files: Mapping[str, bytes],
    metadata: Mapping[str, Any],
) -> None:
    """Writes a checkpoint; returns when it is complete. Refuses a finished one that lies there (ModelError)."""
    place = epath.Path(path).absolute()
    if is_complete(place):
        raise ModelError(f"{place}: a finished checkpoint lies here; remove it, or save elsewhere")
    set_aside(place)
    place.mkdir(parents=True, exist_ok=True)
    with ocp.StandardCheckpointer() as writer:
        writer.save(place / "params", params)
        writer.wait_until_finished()
    (place / TOKENIZER).mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer_files.items():
        (place / TOKENIZER / name).write_bytes(content)
    (place / MODEL).write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    temporary = place / f".{METADATA}.tmp"
    temporary.write_text(json.dumps(dict(metadata), indent=2) + "\n")
    temporary.rename(place / METADATA)


def read_metadata(path: epath.PathLike) -> dict[str, Any]:
    """What was stored beside the parameters. Raises ModelError when no finished checkpoint lies at `path`."""
    file = epath.Path(path) / METADATA
    if not file.exists():
        raise ModelError(f"{path}: no finished checkpoint ({METADATA} is missing)")
    return json.loads(file.read_text())


def read_model_config(path: epath.PathLike) -> ModelConfig:
    file = epath.Path(path) / MODEL
    try:
        return ModelConfig.from_dict(json.loads(file.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{file}: not a model description ({error})") from error


def restore_params(path: epath.PathLike, shardings: Any = None, dtype: Any = None) -> Any:
    """Parameters of a finished checkpoint, straight onto `shardings` (the default device without), cast to `dtype`.

    They may have been saved on any other mesh. Raises ModelError when the checkpoint is unfinished or unreadable.
    """
    place = epath.Path(path).absolute()
    read_metadata(place)
    abstract = abstract_params(read_model_config(place))
    if shardings is None:
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda _: one, abstract)
    target = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype, sharding=where), abstract, shardings
    )
    try:
        with ocp.StandardCheckpointer() as reader:
            return reader.restore(place / "params", target)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"{place}: the parameters cannot be read ({error})") from error
