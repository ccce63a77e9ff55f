"""Models in and out: our own Orbax checkpoints, Hugging Face directories, GGUF files."""

from selfevo_jax.checkpoint.huggingface import export_huggingface
from selfevo_jax.checkpoint.source import ModelSource, open_model
from selfevo_jax.checkpoint.store import is_complete, read_metadata, restore_params, save_model, save_params

__all__ = [
    "ModelSource",
    "export_huggingface",
    "is_complete",
    "open_model",
    "read_metadata",
    "restore_params",
    "save_model",
    "save_params",
]
