"""What an export writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Form:
    """What is written."""

    dtype: Dtype = "float32"
    """Of the weights."""
    adapters: bool = False
    """Adapters alone, as PEFT's folder, in place of the model that they are merged with."""
    gguf: bool = False
    """A GGUF file too."""
