"""What to change in a config whose programs do not fit, the change that costs least first."""

from __future__ import annotations

from jax.sharding import Mesh

from selfevo_jax.config import Config, TrainSection
from selfevo_jax.plan.programs import TRAIN, Program


def remedies(program: Program, config: Config, mesh: Mesh) -> list[str]:
    """Overrides, in the order to try them in, each with what it does."""
    if program.kind == TRAIN:
        name = "meta" if "meta" in program.name else "learn"
        return _of_training(name, getattr(config, name), mesh)
    return _of_sampling(config, mesh)


def _of_training(name: str, section: TrainSection, mesh: Mesh) -> list[str]:
    found = []
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if section.compute_dtype == "float32":
        found.append(f"{name}.compute_dtype=bfloat16 (activations take half)")
    if getattr(section, "remat", None) in ("none", "minimal"):
        found.append(f"{name}.remat=full (keeps one state a layer and computes the rest again, a third more FLOPs)")
    if section.batch_rows // shards > section.accumulate:
        more = next(
            a for a in range(section.accumulate + 1, section.batch_rows + 1) if section.batch_rows % (a * shards) == 0
        )
        found.append(f"{name}.accumulate={more} (fewer rows at a time, the same update)")
    if mesh.shape["data"] > 1:
        found.append(f"mesh.fsdp={shards} mesh.data=1 (parameters, moments and gradients over more devices)")
    if getattr(section, "first_moment_dtype", None) == "float32":
        found.append(f"{name}.first_moment_dtype=bfloat16 (2 bytes a parameter less)")
    if hasattr(section, "lora") and section.lora is None:
        found.append(f"{name}.lora={{rank: 16}} (no moments and gradients of the parameters)")
    found.append(f"{name}.batch_rows or {name}.length smaller (another update), or more chips")
    return found


def _of_sampling(config: Config, mesh: Mesh) -> list[str]:
    s, found = config.sampling, []
    if s.dtype == "float32" and s.cache_dtype is None:
        found.append("sampling.dtype=bfloat16 (parameters and cache take half)")
    elif (s.cache_dtype or s.dtype) != "int8":
        found.append("sampling.cache_dtype=int8 (the cache takes about half of bfloat16)")
    if (s.param_dtype or s.dtype) != "int8":
        found.append("sampling.param_dtype=int8")
    if s.slots is not None:
        found.append("fewer sampling.slots (null takes as many as fit)")
    found.append("a shorter sampling.cache_length")
    if mesh.shape["tensor"] < mesh.size:
        found.append("a larger mesh.tensor (parameters and cache over more devices)")
    return found
