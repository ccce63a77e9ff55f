"""Adapters in the file format of PEFT, which `peft`, `transformers` and vLLM read: adapter_config.json and safetensors.

What the file says beyond plain LoRA on the matrices of the layers is refused by its key (peft, tuners/lora/config.py).
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from selfevo_jax.checkpoint.facts import Facts
from selfevo_jax.checkpoint.from_hub import HUB
from selfevo_jax.checkpoint.weights import (
    Foreign,
    Reader,
    check_tensors,
    flatten,
    foreign_shapes,
    foreign_tensors,
    load_leaves,
    safetensors_shapes,
)
from selfevo_jax.errors import ModelError
from selfevo_jax.model import MATRICES, LoraConfig, ModelConfig, abstract_adapters
from selfevo_jax.storage import is_remote
from selfevo_jax.untrusted import read_object, reading

PEFT, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OWN_BASE = "base"
"""A folder inside that of the adapters, with the model that they are added to; it goes before the name of one."""
_PREFIX = "base_model.model."
_TARGET = re.compile(r"\.(\w+)_proj\.lora_A\.weight$")
_SILENT = frozenset(
    {
        *("peft_type", "task_type", "auto_mapping", "peft_version", "inference_mode"),
        *("target_modules", "lora_dropout", "megatron_core", "qalora_group_size"),
    }
)
"""Keys without an effect on what the adapters compute, or that the names of the tensors say too."""
_BASE_KEPT = ("gaussian", "orthogonal", "eva")
"""Names of beginnings that leave the base as it is. The others (pissa, olora, corda, loftq, lora_ga) change it, so that
the adapters are of another base than the one that is named (peft, tuners/lora/layer.py)."""
_PLAIN = {"bias": "none"}
"""Keys with a value that says what plain LoRA does; every other one may be there without a value alone."""


def read_peft(folder: Path) -> tuple[LoraConfig, str]:
    """What the adapters of a folder are, and the source of the model that they are added to.

    Raises ModelError for a kind of adapters that is not supported, by its key.
    """
    file = folder / PEFT
    facts = Facts(read_object(file), lambda key: f"{file}: {key}", "save the adapters with PEFT again")
    if facts.get("peft_type") != "LORA":
        facts.refuse("peft_type", "LORA")
    rank, alpha = facts.whole("r"), facts.number("lora_alpha")
    of, revision, begun = (facts.get(key) for key in ("base_model_name_or_path", "revision", "init_lora_weights"))
    if isinstance(begun, str) and begun.lower() not in _BASE_KEPT:
        facts.refuse(
            "init_lora_weights",
            f"true, false, {', '.join(_BASE_KEPT)}, which leave the base as it is; save the adapters with PEFT's "
            "path_initial_model_for_weight_conversion, or merge them (merge_and_unload)",
        )
    for key in sorted(facts.unread - _SILENT):
        if facts.get(key) and facts.get(key) != _PLAIN.get(key):
            facts.refuse(key, f"{_PLAIN.get(key, 'no such setting')}; merge the adapters with PEFT (merge_and_unload)")
    weights = folder / PEFT_WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{weights}: missing, beside {PEFT}; save the adapters with PEFT again (safe_serialization)")
    found = {match[1] for name in safetensors_shapes(weights) if (match := _TARGET.search(name))}
    if not found or found - MATRICES.keys():
        known = ", ".join(f"{name}_proj" for name in MATRICES)
        raise ModelError(f"{weights}: expected adapters (lora_A, lora_B) of some of {known} in each layer")
    if (folder / OWN_BASE).is_dir():
        of = str(folder / OWN_BASE)
    if not isinstance(of, str) or not of:
        facts.refuse("base_model_name_or_path", "the folder of the model that the adapters are added to")
    if of.count("/") == 1 and of[0] not in "./~" and not Path(of).exists():
        of = HUB + of + (f"@{revision}" if isinstance(revision, str) and revision else "")
    return LoraConfig(rank, alpha, tuple(name for name in MATRICES if name in found)), of  # type: ignore[misc]


def load_peft(folder: Path, config: ModelConfig, lora: LoraConfig, shardings: Any) -> Any:
    """fp32 adapters of a model's matrices. Raises ModelError where the tensors are not those."""
    file, tensors = folder / PEFT_WEIGHTS, _tensors(config, lora)
    check_tensors(file, foreign_shapes(tensors), safetensors_shapes(file))

    def reader(tensor: Foreign) -> Reader:
        def read(index: tuple[slice, ...]) -> np.ndarray:
            with safe_open(file, "np") as held:
                return tensor.piece(held.get_slice(tensor.name), index)

        return read

    with reading(file, "safetensors file"):
        readers = {name: reader(tensor) for name, tensor in tensors.items()}
        return load_leaves(abstract_adapters(config, lora), readers, shardings)


def check_peft(config: ModelConfig, lora: LoraConfig) -> None:
    """Raises ModelError where a file has no place for such adapters."""
    _tensors(config, lora)


def write_peft(
    folder: Path,
    adapters: Any,
    lora: LoraConfig,
    config: ModelConfig,
    of: str,
    dtype: Any = jnp.float32,
    revision: str | None = None,
) -> None:
    """Writes adapters of one process into a folder that is there.

    Args:
      adapters: as `init_adapters` makes them.
      config: of the model that they are added to.
      of: what PEFT is told of where that model is.
      dtype: of the numbers in the file.
      revision: of the model, where it is one of the hub.
    """
    leaves = flatten(adapters)
    tensors = _tensors(config, lora)
    arrays = {t.name: t.foreign(np.asarray(leaves[name]).astype(dtype)) for name, t in tensors.items()}
    save_file(arrays, folder / PEFT_WEIGHTS, {"format": "pt"})
    alpha = int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": of,
        "revision": revision,
        "r": lora.rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": [f"{name}_proj" for name in lora.targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    (folder / PEFT).write_text(json.dumps(described, indent=2) + "\n")


def base_name(source: str, path: Path) -> tuple[str, str | None]:
    """What PEFT is told of where a model is: the name and the revision of one of the hub, else the folder `path`."""
    if source.startswith(HUB):
        name, _, revision = source.removeprefix(HUB).partition("@")
        return name, revision or None
    return str(path if is_remote(path) else path.resolve()), None


def _tensors(config: ModelConfig, lora: LoraConfig) -> dict[str, Foreign]:
    """Our leaf name -> where it is in PEFT's file: `lora_A` is `[R, inputs]`, `lora_B` `[outputs, R]`.

    Raises ModelError for adapters of experts.
    """
    kernels, found = foreign_tensors(config), {}
    for name, leaf in flatten(abstract_adapters(config, lora)).items():
        matrix, _, part = name.rpartition(".")
        kernel = kernels[f"{matrix}.kernel"]
        if kernel.experts:
            raise ModelError(
                "adapters of experts have no place in a PEFT file (transformers holds all experts in one tensor); "
                "merge them with their model, or adapt q, k, v and o alone (lora.targets)"
            )
        inputs = MATRICES[matrix.rpartition(".")[2]] if part == "a" else 1
        foreign = f"{_PREFIX}{kernel.name.removesuffix('.weight')}.lora_{part.upper()}.weight"
        found[name] = dataclasses.replace(kernel, name=foreign, shape=leaf.shape, inputs=inputs)
    return found
