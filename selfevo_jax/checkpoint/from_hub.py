"""Models of the Hugging Face hub: the files that are read of one, in the cache of huggingface-hub."""

from __future__ import annotations

import glob
from pathlib import Path

from selfevo_jax.errors import ModelError
from selfevo_jax.hub import Named, Repository

HUB = "hub:"
_TEXT = ("*.json", "*.model", "*.jinja", "*.txt")
_WEIGHTS = ("*.safetensors",)
_OTHERS = ("*/*", "consolidated*")
"""Other forms of the same model: in folders (onnx/, original/), and in one file of another layout."""


def fetched(source: str, weights: bool = True) -> Path:
    """The folder of a model `hub:OWNER/NAME[@REVISION]`, or the file of `hub:OWNER/NAME/FILE.gguf[@REVISION]`.

    Args:
      weights: without them the folder serves for its tokenizer alone.

    Raises:
      ModelError: no such model, no package huggingface-hub, no network and nothing in its cache.
    """

    def fault(problem: str) -> ModelError:
        return ModelError(f"{source}: {problem}")

    form = "hub:OWNER/NAME, hub:OWNER/NAME@REVISION or hub:OWNER/NAME/FILE.gguf"
    named = Named.of(source.removeprefix(HUB), fault, form)
    repository, file = Repository("model", named.id, named.revision, fault), "/".join(named.rest)
    if file:
        if not file.endswith(".gguf"):
            raise fault(f"expected {form}")
        path = repository.snapshot([glob.escape(file)]) / file
        if not path.is_file():
            raise fault(f"no such file in the model{_gguf_files(repository)}")
        return path
    folder = repository.snapshot([*_TEXT, *_WEIGHTS] if weights else _TEXT, _OTHERS)
    if weights and not (folder / "config.json").is_file():
        raise fault(f"has no config.json{_gguf_files(repository)}")
    return folder


def _gguf_files(repository: Repository) -> str:
    """How to name those that there are, as the end of a message."""
    found = [name for name in repository.files() or () if name.endswith(".gguf")]
    return f"; name one of its GGUF files: {', '.join(found)}" if found else "; it has no GGUF file either"
