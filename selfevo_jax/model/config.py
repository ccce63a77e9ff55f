"""The shape of a decoder, and presets of known models."""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
from dataclasses import dataclass
from typing import Any, Literal

from selfevo_jax.errors import ModelError, first_line

_MOST = {
    "vocab_size": 10**7,
    "d_model": 10**6,
    "n_layers": 1000,
    "n_heads": 10**5,
    "n_kv_heads": 10**5,
    "head_dim": 10**5,
    "d_ff": 10**7,
    "max_position": 2**31 - 1,
    "sliding_window": 2**31 - 1,
}
_MOST_EXPERTS = 10**5
"""Far above every published model: past these a config is malformed, and would take hours or all memory."""
_FLAGS = (
    "tie_embeddings",
    "qkv_bias",
    "qk_norm",
    "post_norms",
    "zero_centred_norms",
    "scaled_embeddings",
    "normalized_shares",
)


@dataclass(frozen=True)
class RopeScaling:
    """Scaling of rotary frequencies: `linear` divides them all; `llama3` only the long wavelengths (Llama 3.1)."""

    kind: Literal["llama3", "linear"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in ("llama3", "linear"):
            raise ModelError(f"model config: rope_scaling.kind is {_short(self.kind)}, expected llama3 or linear")
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position"):
            _require_positive(f"rope_scaling.{name}", getattr(self, name))


@dataclass(frozen=True)
class LayerKind:
    """What one layer does otherwise than another one. Layers have the same parameters, whatever their kind."""

    window: int | None
    """A query sees this many last positions, itself included; None sees all."""
    rope_theta: float
    rope_scaling: RopeScaling | None


@dataclass(frozen=True)
class ModelConfig:
    """A decoder of the Llama shape: RMSNorm, rotary positions, grouped-query attention, gated feed-forward.

    With what Gemma 2 and 3 add to it (arXiv 2408.00118, 2503.19786).
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    max_position: int = 2048
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    activation: Literal["silu", "gelu"] = "silu"
    sliding_window: int | None = None
    """A query sees this many last positions, itself included; None sees all."""
    local_layers: tuple[bool, ...] = ()
    """For each layer whether it is local: the window is that of the local layers, and the others see all. Empty: all
    layers are alike."""
    local_rope_theta: float | None = None
    """Base of the local layers' rotary positions, which then are not scaled; None: they turn as in the others."""
    query_scalar: float | None = None
    """Scores are products divided by its square root; None: `head_dim`."""
    attention_softcap: float | None = None
    """Bounds scores s to c tanh(s / c); None leaves them."""
    logit_softcap: float | None = None
    """Likewise of the logits."""
    post_norms: bool = False
    """Norms behind attention and feed-forward too, before they are added to the residual."""
    zero_centred_norms: bool = False
    """Norms multiply by 1 + scale."""
    scaled_embeddings: bool = False
    """The first states are the embeddings times sqrt(d_model)."""
    n_experts: int = 0
    """Feed-forwards of each layer, of `d_ff` each, of which a token takes `experts_per_token`; 0: one for all."""
    experts_per_token: int = 0
    normalized_shares: bool = True
    """Whether the shares of the experts that a token takes add up to one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "local_layers", tuple(self.local_layers))
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is None and name == "sliding_window":
                continue
            if type(value) is not int or not 1 <= value <= most:
                raise ModelError(f"model config: {name} is {_short(value)}, expected a whole number from 1 to {most}")
        for name in ("rope_theta", "norm_eps"):
            _require_positive(name, getattr(self, name))
        for name in ("local_rope_theta", "query_scalar", "attention_softcap", "logit_softcap"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                raise ModelError(f"model config: {name} is {_short(getattr(self, name))}, expected true or false")
        if self.activation not in ("silu", "gelu"):
            raise ModelError(f"model config: activation is {_short(self.activation)}, expected silu or gelu")
        if self.n_heads % self.n_kv_heads:
            raise ModelError(f"model config: n_heads {self.n_heads} is no multiple of n_kv_heads {self.n_kv_heads}")
        if self.head_dim % 2:
            raise ModelError(f"model config: head_dim {self.head_dim} is odd; rotary positions need an even one")
        self._require_layers()
        most, each = self.n_experts, self.experts_per_token
        for name, value in (("n_experts", most), ("experts_per_token", each)):
            if type(value) is not int or not 0 <= value <= _MOST_EXPERTS:
                raise ModelError(
                    f"model config: {name} is {_short(value)}, expected a number from 0 to {_MOST_EXPERTS}"
                )
        if (most > 0) != (each > 0) or each > most:
            raise ModelError(f"model config: experts_per_token is {each} of {most} experts")

    def _require_layers(self) -> None:
        local = self.local_layers
        if local and (len(local) != self.n_layers or any(type(one) is not bool for one in local)):
            raise ModelError(
                f"model config: local_layers is {_short(local)}, expected true or false for each of the "
                f"{self.n_layers} layers"
            )
        if any(local) and self.sliding_window is None:
            raise ModelError("model config: local_layers without sliding_window, the positions that they see")
        if self.local_rope_theta is not None and not local:
            raise ModelError("model config: local_rope_theta without local_layers, whose base it is")

    @functools.cached_property
    def layers(self) -> tuple[LayerKind, ...]:
        """The kind of each layer."""
        alike = LayerKind(self.sliding_window, self.rope_theta, self.rope_scaling)
        if not self.local_layers:
            return (alike,) * self.n_layers
        whole, local = dataclasses.replace(alike, window=None), alike
        if self.local_rope_theta is not None:
            local = LayerKind(self.sliding_window, self.local_rope_theta, None)
        return tuple(local if one else whole for one in self.local_layers)

    @functools.cached_property
    def kinds(self) -> tuple[LayerKind, ...]:
        """The different kinds of layers, in the order of the first of each."""
        return tuple(dict.fromkeys(self.layers))

    @property
    def period(self) -> int:
        """The fewest layers whose kinds, repeated, are those of all; `n_layers` where they do not repeat."""
        kinds, n = self.layers, self.n_layers
        return next(p for p in range(1, n + 1) if n % p == 0 and kinds == kinds[:p] * (n // p))

    @property
    def positions(self) -> int:
        """That the model was made for, those that scaling stretches its own to among them."""
        scaling = self.rope_scaling
        if scaling is None or self.local_rope_theta is not None:  # Gemma 3 counts them in max_position
            return self.max_position
        stretched = self.max_position if scaling.kind == "linear" else scaling.original_max_position
        return max(self.max_position, int(scaling.factor * stretched))

    def of_layers(self, n_layers: int) -> ModelConfig:
        """The same with its first layers alone."""
        return dataclasses.replace(self, n_layers=n_layers, local_layers=self.local_layers[:n_layers])

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> ModelConfig:
        """Raises ModelError on unknown or missing keys, and on values that cannot be."""
        scaling = tree.get("rope_scaling")
        local = tree.get("local_layers", ())
        if not isinstance(local, list | tuple):
            raise ModelError(f"model config: local_layers is {_short(local)}, expected a list")
        try:
            return cls(**{**tree, "rope_scaling": RopeScaling(**scaling) if scaling else None})
        except TypeError as error:
            raise ModelError(f"model config: {first_line(error)}") from error


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelError(f"model config: {name} is {_short(value)}, expected a number above 0")


def _short(value: object) -> str:
    return reprlib.repr(value)


def _smollm2(d_model: int, n_layers: int, n_heads: int, n_kv_heads: int, d_ff: int, theta: float) -> ModelConfig:
    return ModelConfig(
        49152, d_model, n_layers, n_heads, n_kv_heads, 64, d_ff, max_position=8192, rope_theta=theta, norm_eps=1e-5
    )


def _llama2(d_model: int, n_layers: int, n_heads: int, d_ff: int) -> ModelConfig:
    return ModelConfig(32000, d_model, n_layers, n_heads, n_heads, 128, d_ff, max_position=4096, tie_embeddings=False)


def _qwen25(vocab: int, d: int, layers: int, heads: int, kv: int, d_ff: int, tied: bool) -> ModelConfig:
    return ModelConfig(
        vocab,
        d,
        layers,
        heads,
        kv,
        d // heads,
        d_ff,
        max_position=32768,
        rope_theta=1e6,
        norm_eps=1e-6,
        tie_embeddings=tied,
        qkv_bias=True,
    )


def _qwen3(d: int, layers: int, heads: int, kv: int, d_ff: int, tied: bool) -> ModelConfig:
    return ModelConfig(
        151936,
        d,
        layers,
        heads,
        kv,
        128,
        d_ff,
        max_position=40960,
        rope_theta=1e6,
        norm_eps=1e-6,
        tie_embeddings=tied,
        qk_norm=True,
    )


_QWEN3_30B_A3B = dataclasses.replace(
    _qwen3(2048, 48, 32, 4, 768, False), n_experts=128, experts_per_token=8, normalized_shares=True
)


def _gemma(vocab: int, d: int, layers: int, heads: int, kv: int, d_ff: int, every: int, **other: Any) -> ModelConfig:
    """Every so many layers one sees all, and the others the window."""
    return ModelConfig(
        vocab,
        d,
        layers,
        heads,
        kv,
        256,
        d_ff,
        norm_eps=1e-6,
        activation="gelu",
        local_layers=tuple((layer + 1) % every != 0 for layer in range(layers)),
        post_norms=True,
        zero_centred_norms=True,
        scaled_embeddings=True,
        **other,
    )


_GEMMA2: dict[str, Any] = {
    "max_position": 8192,
    "sliding_window": 4096,
    "attention_softcap": 50.0,
    "logit_softcap": 30.0,
}
_LLAMA2_7B = _llama2(4096, 32, 32, 11008)
_LLAMA2_13B = _llama2(5120, 40, 40, 13824)

PRESETS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(512, 64, 2, 4, 2, 16, 128, max_position=512),
    "smollm2-135m": _smollm2(576, 30, 9, 3, 1536, 1e5),
    "smollm2-360m": _smollm2(960, 32, 15, 5, 2560, 1e5),
    "smollm2-1.7b": _smollm2(2048, 24, 32, 32, 8192, 1.3e5),
    "llama-2-7b": _LLAMA2_7B,
    "llama-2-13b": _LLAMA2_13B,
    "vicuna-7b": _LLAMA2_7B,
    "vicuna-13b": _LLAMA2_13B,
    "llama-3.1-8b": ModelConfig(
        128256,
        4096,
        32,
        32,
        8,
        128,
        14336,
        max_position=131072,
        rope_theta=5e5,
        rope_scaling=RopeScaling("llama3", 8.0),
        tie_embeddings=False,
    ),
    "mistral-7b": ModelConfig(
        32000, 4096, 32, 32, 8, 128, 14336, max_position=32768, tie_embeddings=False, sliding_window=4096
    ),
    "qwen-2.5-0.5b": _qwen25(151936, 896, 24, 14, 2, 4864, True),
    "qwen-2.5-1.5b": _qwen25(151936, 1536, 28, 12, 2, 8960, True),
    "qwen-2.5-7b": _qwen25(152064, 3584, 28, 28, 4, 18944, False),
    "qwen-3-0.6b": _qwen3(1024, 28, 16, 8, 3072, True),
    "qwen-3-4b": _qwen3(2560, 36, 32, 8, 9728, True),
    "qwen-3-8b": _qwen3(4096, 36, 32, 8, 12288, False),
    "qwen-3-30b-a3b": _QWEN3_30B_A3B,
    "gemma-2-2b": _gemma(256000, 2304, 26, 8, 4, 9216, 2, **_GEMMA2),
    "gemma-2-9b": _gemma(256000, 3584, 42, 16, 8, 14336, 2, **_GEMMA2),
    "gemma-3-4b": _gemma(
        262208,
        2560,
        34,
        8,
        4,
        10240,
        6,
        max_position=131072,
        rope_theta=1e6,
        rope_scaling=RopeScaling("linear", 8.0),
        local_rope_theta=1e4,
        sliding_window=1024,
        qk_norm=True,
    ),
}
"""Published shapes; Vicuna has Llama 2's (version 1.5), Mistral 7B is version 0.1 with its sliding window, Gemma 3 its
part for text."""


def preset_shape(name: str) -> ModelConfig:
    """Raises ModelError for a name that is not among PRESETS."""
    if name not in PRESETS:
        raise ModelError(f"preset {name}: no such preset; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
