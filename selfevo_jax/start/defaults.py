"""Settings that fit a model's size, its machine and its data: a place to begin from, not a tuned one.

Learning rates are those that `configs/` have been run with (0.35 and 135 million parameters), and the usual ones for
full fine-tuning of larger models; adapters take ten times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfevo_jax.model import ModelConfig, param_count

_RATES = ((2e6, 2e-3, 1e-3), (3e7, 6e-4, 3e-4), (3e8, 3e-4, 2e-4), (1.2e9, 2e-5, 2e-5))
"""Parameters below, learning rate of meta-skill learning, that of a round."""
_LARGE_RATE = 1e-5
_LORA_TIMES = 10.0
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
    meta_rate, learn_rate = next(((a, b) for most, a, b in _RATES if n < most), (_LARGE_RATE, _LARGE_RATE))
    # fp32 parameters, two moments, gradients, and the copy that is kept beside them, over all devices
    shards = 1 if machine.is_cpu else machine.devices
    whole, room = 20 * n / shards, _USABLE * machine.memory
    lora = whole > room
    if lora:
        meta_rate, learn_rate = (min(3e-4, _LORA_TIMES * rate) for rate in (meta_rate, learn_rate))
    tiny = n < TINY
    if machine.is_cpu:
        rows = max(16 if tiny else 2, machine.devices)
    else:
        rows = machine.devices * max(4, min(64, _TOKENS_A_STEP // length))
    most = 1024 if tiny else 288 if machine.is_cpu else 4096
    return Settings(
        meta_rate=meta_rate,
        learn_rate=learn_rate,
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
