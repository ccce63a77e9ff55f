"""From a config's sampling section to an engine: its mesh, its dtypes, its slots. One place for runs and for plans."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from selfevo_jax.model import ModelConfig
from selfevo_jax.sample.engine import Engine
from selfevo_jax.sample.memory import SamplerMemory
from selfevo_jax.sample.section import SamplingSection
from selfevo_jax.sample.speculation import Speculation
from selfevo_jax.sharding import regroup


def sampler_memory(section: SamplingSection, model: ModelConfig, train_mesh: Mesh) -> SamplerMemory:
    """What decoding needs, on a mesh of its own over the same devices where the section asks for one.

    Raises ConfigError when `sampling.tensor` does not divide the devices.
    """
    mesh = train_mesh
    if section.tensor is not None:
        mesh = regroup(train_mesh, section.tensor)
    return SamplerMemory(
        model,
        section.cache_length,
        dtype=jnp.dtype(section.dtype),
        param_dtype=jnp.dtype(section.param_dtype or section.dtype),
        cache_dtype=jnp.dtype(section.cache_dtype or section.dtype),
        mesh=mesh,
        train_mesh=train_mesh,
        speculation=Speculation.of(section.speculate, mesh.devices.flat[0].platform),
    )


def make_engine(memory: SamplerMemory, tokenizer: Any, slots: int, seed: int, **options: Any) -> Engine:
    """The engine that the memory was counted for; `options` are more of `Engine`'s arguments."""
    return Engine(
        memory.config,
        tokenizer,
        slots=slots,
        cache_length=memory.cache_length,
        seed=seed,
        mesh=memory.mesh,
        dtype=memory.dtype,
        param_dtype=memory.param_dtype,
        cache_dtype=memory.cache_dtype,
        speculation=memory.speculation,
        **options,
    )
