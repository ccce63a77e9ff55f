"""Sampling: requests in chains, one chain in one slot, draws that depend on their key alone."""

from selfevo_jax.sample.engine import Engine
from selfevo_jax.sample.memory import SamplerMemory, SlotPlan, available_bytes
from selfevo_jax.sample.methods import SamplingParams, draw, filter_logits
from selfevo_jax.sample.request import Chain, Completion, DrawKey, Request
from selfevo_jax.sample.rollout import CUT, Candidate, Feedback, Rollout, SelfChain, StageParams, choose
from selfevo_jax.sample.setup import make_engine, sampler_memory
from selfevo_jax.sample.sharing import SHARE_FROM, common_prefix
from selfevo_jax.sample.stats import EngineStats

__all__ = [
    "CUT",
    "SHARE_FROM",
    "Candidate",
    "Chain",
    "Completion",
    "DrawKey",
    "Engine",
    "EngineStats",
    "Feedback",
    "Request",
    "Rollout",
    "SamplerMemory",
    "SamplingParams",
    "SelfChain",
    "SlotPlan",
    "StageParams",
    "available_bytes",
    "choose",
    "common_prefix",
    "draw",
    "filter_logits",
    "make_engine",
    "sampler_memory",
]
