"""From FLOPs and bytes to a range of seconds, and model FLOPs, which a perfect program would need."""

from __future__ import annotations

from dataclasses import dataclass

from selfevo_jax.model import ModelConfig, attended_positions, used_params
from selfevo_jax.plan.accounting import Totals
from selfevo_jax.plan.chips import Rates


@dataclass(frozen=True)
class Span:
    """Seconds from `low` (communication hidden behind computing) to `high` (communication after it)."""

    low: float
    high: float

    def __mul__(self, times: float) -> Span:
        return Span(self.low * times, self.high * times)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    @classmethod
    def zero(cls) -> Span:
        return cls(0.0, 0.0)


@dataclass(frozen=True)
class Roofline:
    """Seconds that each part of a program takes at the peak rates of a device."""

    compute: float
    memory: float
    ici: float
    dcn: float

    @classmethod
    def of(cls, totals: Totals, rates: Rates) -> Roofline:
        return cls(
            totals.flops / rates.flops,
            totals.hbm_bytes / rates.hbm_bytes,
            totals.ici_bytes / rates.ici_bytes,
            totals.dcn_bytes / rates.dcn_bytes,
        )

    @property
    def communication(self) -> float:
        """The two networks one after the other."""
        return self.ici + self.dcn

    @property
    def seconds(self) -> Span:
        """max(compute, memory, communication) to max(compute, memory) + communication."""
        local = max(self.compute, self.memory)
        return Span(max(local, self.communication), local + self.communication)

    @property
    def bound(self) -> str:
        """What takes longest."""
        parts = {"compute": self.compute, "memory": self.memory, "communication": self.communication}
        return max(parts, key=lambda name: parts[name])


def multiplied_params(config: ModelConfig) -> int:
    """N, the parameters that each token is multiplied with: all but an embedding that is only looked up, and of experts
    those that a token takes."""
    return used_params(config) - (0 if config.tie_embeddings else config.vocab_size * config.d_model)


def forward_flops(config: ModelConfig, tokens: float, context: float, predicted: float | None = None) -> float:
    """Model FLOPs of a forward pass over all chips: 2 N a token, and 4 a layer, head dimension and position.

    Args:
      context: positions that a token attends to, in the mean.
      predicted: tokens that logits are computed for; None: all.
    """
    attention = 4.0 * config.n_heads * config.head_dim * attended_positions(config, context)
    head = 2.0 * config.vocab_size * config.d_model
    passed_over = 0.0 if predicted is None else tokens - predicted
    return tokens * (2.0 * multiplied_params(config) + attention) - passed_over * head


def train_flops(config: ModelConfig, tokens: float, length: int, frozen: bool = False) -> float:
    """Model FLOPs of a training step over all chips: 6 N + 12 L H Q T a token, T the row's length.

    PaLM (arXiv 2204.02311), appendix B: backward counts twice as forward, recomputation nothing, and attention as if no
    position were masked. With adapters on `frozen` parameters, which need no gradient, 4 N; the adapters' own products
    are not counted.
    """
    return 3.0 * forward_flops(config, tokens, length) - (2.0 * multiplied_params(config) * tokens if frozen else 0.0)


def utilisation(model_flops: float, seconds: Span, rates: Rates, devices: int) -> Span:
    """Model FLOP utilisation, from that of the longer time to that of the shorter one."""
    peak = rates.flops * devices
    return Span(model_flops / seconds.high / peak, model_flops / seconds.low / peak)
