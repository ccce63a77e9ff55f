"""Which model a run begins with."""

from __future__ import annotations

from selfevo_jax.section import Section


class ModelSection(Section):
    """The model that a run begins with."""

    source: str
    """`builtin:stories`, `package:NAME` (a GGUF inside an installed package), a `.gguf` file, a Hugging Face
    directory, one written by `selfevo import`, `hub:OWNER/NAME[@REVISION]` (the Hugging Face hub; or one GGUF file
    there, `hub:OWNER/NAME/FILE.gguf`), or `preset:NAME` (random weights, needs `tokenizer`)."""
    tokenizer: str | None = None
    """Path of the tokenizer, or `hub:OWNER/NAME`; None takes the one that lies with the model."""
    preset: str | None = None
    """Name of a known shape that the model must have; with it `selfevo plan` needs no model at all."""
