"""Settings that fit a model's size, its machine and its data: a place to begin from, not a tuned one."""

from __future__ import annotations

from dataclasses import dataclass

from selfevo_jax.model import ModelConfig, param_count
from selfevo_jax.train.rates import usual_rates

TINY, SMALL, LARGE = 2e6, 1.2e9, 3e9
"""Parameters."""
_USABLE = 0.7
"""Of a device's memory, for what a fine-tuning holds without activations."""
_LEAST = 32
"""Prompts of a round; with fewer they come again in each."""
_TOKENS_A_STEP = 32768
"""Of a device that is no CPU."""
BARE = "{prompt}\nReply with the answer alone, without a sentence or a full stop."
"""How a chat model is asked for what `exact` can grade: it would answer in sentences."""


@dataclass(frozen=True)
class Machine:
    """What a config is to run on."""

    platform: str
    devices: int
    memory: int
    """Bytes of one device."""

    @property
    def is_cpu(self) -> bool:
        return self.platform == "cpu"


@dataclass(frozen=True)
class Settings:
    """Of training and sampling."""

    meta_rate: float
    learn_rate: float
    lora: bool
    dtype: str
    remat: str
    rows: int
    meta_epochs: int
    prompts: int
    """Of a round."""
    evaluation_rows: int | None
    responses: int
    """Tokens of a response at most, where no data says how long one is."""
    why_lora: str = ""


def settings_for(model: ModelConfig, machine: Machine, length: int, prompts: int, rounds: int) -> Settings:
    """`length`: tokens of a packed row; `prompts`: how many are given."""
    n = param_count(model)
    # fp32 parameters, two moments, gradients, and the copy that is kept beside them, over all devices
    shards = 1 if machine.is_cpu else machine.devices
    whole, room = 20 * n / shards, _USABLE * machine.memory
    lora = whole > room
    rates = usual_rates(n, lora)
    tiny = n < TINY
    if machine.is_cpu:
        rows = max(16 if tiny else 2, machine.devices)
    else:
        rows = machine.devices * max(4, min(64, _TOKENS_A_STEP // length))
    most = 1024 if tiny else 288 if machine.is_cpu else 4096
    return Settings(
        meta_rate=rates.meta,
        learn_rate=rates.learn,
        lora=lora,
        dtype="float32" if machine.is_cpu else "bfloat16",
        remat="none" if machine.is_cpu or tiny else "full" if n >= LARGE else "minimal",
        rows=rows,
        meta_epochs=4 if tiny else 2,
        prompts=_a_round(prompts, rounds, most),
        evaluation_rows=200 if machine.is_cpu and not tiny else None,
        responses=128 if machine.is_cpu else 512,
        why_lora=f"full fine-tuning takes {whole / 2**30:.0f} GiB without activations" if lora else "",
    )


def _a_round(prompts: int, rounds: int, most: int) -> int:
    """Different prompts in each round where there are enough: a round of fewer than _LEAST teaches little."""
    return min(most, max(prompts // max(1, rounds), min(prompts, _LEAST)))
