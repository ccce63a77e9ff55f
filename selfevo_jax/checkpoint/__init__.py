"""Checkpoints: our own (Orbax), Hugging Face folders, GGUF files, shipped models."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.checkpoint.adapters import Adapters, adapters_in, merged
    from selfevo_jax.checkpoint.aside import ASIDE, MARK, free_name, set_aside
    from selfevo_jax.checkpoint.commit import NOTE, folder_faults, noted
    from selfevo_jax.checkpoint.digest import model_checksum
    from selfevo_jax.checkpoint.gguf import read_gguf
    from selfevo_jax.checkpoint.gguf_export import check_gguf, write_gguf
    from selfevo_jax.checkpoint.huggingface import read_huggingface
    from selfevo_jax.checkpoint.huggingface_config import config_from_huggingface, config_to_huggingface
    from selfevo_jax.checkpoint.huggingface_export import export_huggingface
    from selfevo_jax.checkpoint.peft import PEFT, base_name, check_peft, write_peft
    from selfevo_jax.checkpoint.section import ModelSection
    from selfevo_jax.checkpoint.source import (
        ModelSource,
        base_of,
        locate,
        open_model,
        open_weights,
        save_safetensors,
    )
    from selfevo_jax.checkpoint.store import (
        ARRAYS,
        is_complete,
        read_metadata,
        restore_params,
        save_adapters,
        save_model,
        save_params,
    )
    from selfevo_jax.checkpoint.training import KEPT, TrainingStore
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "ARRAYS",
    "ASIDE",
    "KEPT",
    "MARK",
    "NOTE",
    "PEFT",
    "Adapters",
    "ModelSection",
    "ModelSource",
    "TrainingStore",
    "adapters_in",
    "base_name",
    "base_of",
    "check_gguf",
    "check_peft",
    "config_from_huggingface",
    "config_to_huggingface",
    "export_huggingface",
    "folder_faults",
    "free_name",
    "is_complete",
    "locate",
    "merged",
    "model_checksum",
    "noted",
    "open_model",
    "open_weights",
    "read_gguf",
    "read_huggingface",
    "read_metadata",
    "restore_params",
    "save_adapters",
    "save_model",
    "save_params",
    "save_safetensors",
    "set_aside",
    "write_gguf",
    "write_peft",
]
