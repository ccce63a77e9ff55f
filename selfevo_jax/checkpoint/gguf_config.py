"""The metadata of a GGUF file as a model config: read as llama.cpp reads it, or refused by key.

Defaults are those of llama.cpp's loader (src/llama-model.cpp, src/models/{llama,qwen2,qwen3}.cpp). A key of the
architecture that is neither read here nor known to be without effect is refused: what it says could change logits.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, RopeScaling
from selfevo_jax.model.attention import rope_frequencies

HEAD, EMBEDDING, ROPE = "output.weight", "token_embd.weight", "rope_freqs.weight"
_KINDS = ("llama", "qwen2", "qwen3")

_SILENT = frozenset(
    {
        "vocab_size",  # the embedding has it
        "tensor_data_layout",  # of the original files, before they were converted
        "rope.scaling.original_context_length",  # of YaRN, which is refused, like the five below
        "rope.scaling.finetuned",
        "rope.scaling.yarn_log_multiplier",
        "rope.scaling.yarn_ext_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "expert_used_count",  # of mixtures, which are refused by expert_count
    }
)
"""Keys without an effect on these architectures."""

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "expert_count": (0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
    "attention.causal": (True,),
    "attention.max_alibi_bias": (0,),
    "attention.clamp_kqv": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "rope.scaling.attn_factor": (1,),
}
"""Keys that may be there with a value that says what these architectures do anyway."""


class _Facts:
    """The keys of one architecture; what was not asked for is known at the end."""

    def __init__(self, path: Path, kind: str, fields: Mapping[str, Any]) -> None:
        self.path, self.kind = path, kind
        self._values = {key.removeprefix(f"{kind}."): v for key, v in fields.items() if key.startswith(f"{kind}.")}
        self._left = set(self._values)

    def get(self, key: str) -> Any:
        self._left.discard(key)
        return self._values.get(key)

    def refuse(self, key: str, expected: str) -> NoReturn:
        found = reprlib.repr(self._values.get(key))
        raise ModelError(f"{self.path}: metadata '{self.kind}.{key}' is {found}, supported is {expected}")

    def _need(self, key: str) -> NoReturn:
        raise ModelError(f"{self.path}: metadata '{self.kind}.{key}' is missing; convert the model to GGUF again")

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number from 1; of a list with one number a layer the one, where all are the same."""
        value = self.get(key)
        if value is None:
            if default is None:
                raise ModelError(
                    f"{self.path}: metadata '{self.kind}.{key}' is missing; convert the model to GGUF again"
                )
            return default
        each = value if isinstance(value, list) and value else [value]
        if any(item != each[0] for item in each):
            self.refuse(key, "the same number in all layers")
        if type(each[0]) is not int or each[0] < 1:
            self.refuse(key, "a whole number from 1")
        return each[0]

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number that is not negative."""
        value = self.get(key)
        if value is None:
            if default is None:
                raise ModelError(
                    f"{self.path}: metadata '{self.kind}.{key}' is missing; convert the model to GGUF again"
                )
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            self.refuse(key, "a number from 0")
        return float(value)

    def refuse_others(self, head_dim: int) -> None:
        """Raises ModelError on a key that was not read and could change what the model computes."""
        scale = self.number("attention.scale", 0.0)
        if scale and not math.isclose(scale, head_dim**-0.5, rel_tol=1e-5):
            self.refuse("attention.scale", f"1/sqrt({head_dim})")
        for key in sorted(self._left - _SILENT):
            value = self._values[key]
            if key not in _NEUTRAL:
                raise ModelError(
                    f"{self.path}: metadata '{self.kind}.{key}' is {reprlib.repr(value)}; what it asks of the model "
                    "is not supported; use the model's original folder, or another model"
                )
            each = value if isinstance(value, list) else [value]
            if any(item not in _NEUTRAL[key] for item in each):
                self.refuse(key, " or ".join(map(str, _NEUTRAL[key])))


def config_from_gguf(
    path: Path, fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], factors: np.ndarray | None
) -> tuple[ModelConfig, str]:
    """Config and architecture of a file.

    Args:
      path: named in errors.
      fields: the metadata.
      shapes: name -> shape of each tensor, sizes outermost first.
      factors: the tensor `rope_freqs.weight`, one divisor a rotary frequency, where there is one.

    Raises:
      ModelError: an architecture, key or value that is not supported, by its name.
    """
    kind = fields.get("general.architecture")
    if kind not in _KINDS:
        raise ModelError(f"{path}: architecture {reprlib.repr(kind)} is not supported; supported: {', '.join(_KINDS)}")
    if (what := fields.get("general.type", "model")) != "model":
        raise ModelError(f"{path}: general.type is {reprlib.repr(what)}, expected a model")
    if (parts := fields.get("split.count", 0)) not in (0, 1):
        raise ModelError(f"{path}: one of {reprlib.repr(parts)} parts; join them with: llama-gguf-split --merge")
    if EMBEDDING not in shapes:
        raise ModelError(f"{path}: tensor '{EMBEDDING}' is missing")
    facts = _Facts(path, kind, fields)
    width, heads = facts.whole("embedding_length"), facts.whole("attention.head_count")
    head_dim = facts.whole("attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if facts.whole(key, head_dim) != head_dim:
            facts.refuse(key, f"{head_dim}, the size of a head")
    theta = facts.number("rope.freq_base", 10000.0)
    longest = facts.whole("context_length")
    layers = facts.whole("block_count")
    _refuse_window(facts, layers, longest)
    config = ModelConfig(
        vocab_size=shapes[EMBEDDING][0],
        d_model=width,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=facts.whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        d_ff=facts.whole("feed_forward_length"),
        max_position=longest,
        rope_theta=theta,
        rope_scaling=_scaling(facts, factors, theta, head_dim),
        # stored as fp32: 1e-5 comes back as 9.99999974e-06
        norm_eps=float(f"{facts.number('attention.layer_norm_rms_epsilon'):.6g}"),
        tie_embeddings=HEAD not in shapes,
        qkv_bias="blk.0.attn_q.bias" in shapes,
        qk_norm=kind == "qwen3",
    )
    facts.refuse_others(head_dim)
    return config, kind


def _refuse_window(facts: _Facts, layers: int, longest: int) -> None:
    """llama.cpp attends to everything in these architectures: a window that would hide something is refused."""
    window, pattern = facts.get("attention.sliding_window"), facts.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        windowed = any(pattern)
    elif type(pattern) is int:  # a period, whose last layer sees all
        windowed = pattern < 1 or any(layer % pattern < pattern - 1 for layer in range(layers))
    else:
        windowed = window is not None
    if windowed and window != 0 and not (type(window) is int and window >= longest):
        facts.refuse("attention.sliding_window", f"none, or {longest} (the context) and more")


def _scaling(facts: _Facts, factors: np.ndarray | None, theta: float, head_dim: int) -> RopeScaling | None:
    """Llama 3's scaling is stored as one divisor a frequency: found again from the largest, and compared."""
    name = facts.get("rope.scaling.type")
    newer, older = facts.number("rope.scaling.factor", 0.0), facts.number("rope.scale_linear", 0.0)
    factor = newer or older or 1.0
    if name not in (None, "none", "linear"):
        facts.refuse("rope.scaling.type", "none or linear")
    scaling = None if name == "none" or factor == 1.0 else RopeScaling("linear", factor)
    if factors is None:
        return scaling
    if scaling is not None:
        facts.refuse("rope.scaling.factor", f"none beside the tensor '{ROPE}'")
    if facts.kind != "llama":
        raise ModelError(f"{facts.path}: tensor '{ROPE}' is not known for '{facts.kind}'; convert the model again")
    scaling = RopeScaling("llama3", float(np.max(factors)))
    plain = ModelConfig(1, 1, 1, 1, 1, head_dim, 1, rope_theta=theta)
    scaled = dataclasses.replace(plain, rope_scaling=scaling)
    wanted = rope_frequencies(plain) / rope_frequencies(scaled)
    if factors.shape != wanted.shape or not np.allclose(wanted, factors, rtol=1e-3):
        raise ModelError(f"{facts.path}: '{ROPE}' is not Llama 3's scaling, and no other is supported")
    return scaling
