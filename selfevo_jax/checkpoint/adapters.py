"""Adapters in a folder, ours or PEFT's: what they are, what they are added to, and their sum with it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from selfevo_jax.checkpoint.peft import PEFT, PEFT_WEIGHTS, load_peft, read_peft
from selfevo_jax.checkpoint.store import ADAPTERS, ARRAYS, BESIDE, require_complete, restore_params
from selfevo_jax.errors import ConfigError, ModelError, first_line
from selfevo_jax.model import LoraConfig, ModelConfig, abstract_adapters, merge_adapters
from selfevo_jax.sharding import replicated
from selfevo_jax.storage import storage_of
from selfevo_jax.untrusted import is_plain_name, read_object

Loader = Callable[[Any, Any], Any]
"""(pytree of shardings or None, dtype) -> parameters."""


@dataclass(frozen=True)
class Adapters:
    """Adapters whose numbers are not loaded yet."""

    lora: LoraConfig
    of: str
    """The source of the model that they are added to."""
    file: Path
    """What describes them."""
    files: list[Path]
    """All that is read, the description among it."""
    load: Callable[[ModelConfig, Any], Any]
    """(shape of the model, pytree of shardings or None) -> fp32 adapters."""


def adapters_in(path: Path) -> Adapters | None:
    """The adapters of a folder; None where it holds none. Raises ModelError for a description that cannot be used."""
    if (path / PEFT).is_file():
        lora, of = read_peft(path)
        return Adapters(
            lora,
            of,
            path / PEFT,
            [path / PEFT, path / PEFT_WEIGHTS],
            lambda config, shardings: load_peft(path, config, lora, shardings),
        )
    if not (path / ADAPTERS).is_file():
        return None
    lora, of = _description(path)
    return Adapters(
        lora,
        of,
        path / ADAPTERS,
        [path / ADAPTERS, *storage_of(path).files(path / ARRAYS)],
        lambda config, shardings: restore_params(path, abstract_adapters(config, lora), shardings),
    )


def _description(path: Path) -> tuple[LoraConfig, str]:
    file = path / ADAPTERS
    require_complete(path)
    tree = read_object(file)
    try:
        of = tree.pop("of")
        lora = LoraConfig(**tree)
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"{file}: not the description of adapters ({first_line(error)})") from error
    if not isinstance(of, str) or (of.startswith(BESIDE) and not is_plain_name(of.removeprefix(BESIDE))):
        raise ModelError(
            f"{file}: 'of' is {reprlib.repr(of)}, expected a model source, or {BESIDE}NAME of a folder beside this one"
        )
    return lora, str(path.parent / of.removeprefix(BESIDE)) if of.startswith(BESIDE) else of


def merged(adapters: Adapters, config: ModelConfig, base: Loader) -> Loader:
    """Loads the model that adapters belong to with their products added, in fp32 and then rounded."""

    def load(shardings: Any, dtype: Any) -> Any:
        whole = None  # adapters are small: each device takes all of them
        if shardings is not None:
            mesh = jax.tree.leaves(shardings)[0].mesh
            whole = jax.tree.map(lambda _: replicated(mesh), abstract_adapters(config, adapters.lora))

        def added(params: Any, products: Any) -> Any:
            return jax.tree.map(lambda x: x.astype(dtype), merge_adapters(params, products, adapters.lora))

        program = jax.jit(added, out_shardings=shardings, donate_argnums=0)
        return program(base(shardings, jnp.float32), adapters.load(config, whole))

    return load
