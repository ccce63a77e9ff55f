"""Sampling: requests in chains, one chain in one slot, draws that depend on their key alone."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.sample.engine import Engine
    from selfevo_jax.sample.memory import SamplerMemory, SlotPlan, available_bytes
    from selfevo_jax.sample.methods import draw, filter_logits
    from selfevo_jax.sample.params import SamplingParams
    from selfevo_jax.sample.request import Chain, Completion, DrawKey, Finish, Request, Single, is_whole
    from selfevo_jax.sample.section import SamplingSection, StageSection
    from selfevo_jax.sample.setup import make_engine, sampler_memory
    from selfevo_jax.sample.sharing import SHARE_FROM, common_prefix
    from selfevo_jax.sample.speculation import Speculation
    from selfevo_jax.sample.stats import EngineStats
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "SHARE_FROM",
    "Chain",
    "Completion",
    "DrawKey",
    "Engine",
    "EngineStats",
    "Finish",
    "Request",
    "SamplerMemory",
    "SamplingParams",
    "SamplingSection",
    "Single",
    "SlotPlan",
    "Speculation",
    "StageSection",
    "available_bytes",
    "common_prefix",
    "draw",
    "filter_logits",
    "is_whole",
    "make_engine",
    "sampler_memory",
]
