"""What to change in a config whose programs do not fit, the change that costs least first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from selfevo_jax.config import Config
from selfevo_jax.plan.programs import TRAIN, Program
from selfevo_jax.train import TrainSection


def remedies(program: Program, config: Config) -> list[str]:
    """Overrides, in the order to try them in, each with what it does."""
    if program.kind == TRAIN:
        names = [name for name in config.trained if program.name in (TRAIN, f"{TRAIN} ({name})")]
        return training_remedies(names, getattr(config, names[-1]), program.mesh.shape)
    return _of_sampling(config, program.mesh.shape)


def training_remedies(names: Sequence[str], section: TrainSection, mesh: Mapping[str, int]) -> list[str]:
    """The same for a training step of the config's sections of these names, which have the settings of `section`."""
    found, shards = [], math.prod(mesh.values()) // mesh["tensor"]

    def change(key: str, value: object, why: str) -> None:
        found.append(" ".join(f"{name}.{key}={value}" for name in names) + f" ({why})")

    if section.compute_dtype == "float32":
        change("compute_dtype", "bfloat16", "activations take half")
    if section.remat in ("none", "minimal"):
        change("remat", "full", "keeps one state a layer and computes the rest again, a third more FLOPs")
    if section.batch_rows // shards > section.accumulate:
        counts = range(section.accumulate + 1, section.batch_rows + 1)
        more = next(n for n in counts if section.batch_rows % (n * shards) == 0)
        change("accumulate", more, "fewer rows at a time, the same update")
    if mesh["data"] > 1:
        fsdp = mesh["data"] * mesh["fsdp"]
        found.append(f"mesh.data=1 mesh.fsdp={fsdp} (parameters, moments and gradients over more devices)")
    if section.first_moment_dtype == "float32":
        change("first_moment_dtype", "bfloat16", "2 bytes a parameter less")
    if section.lora is None:
        change("lora", "{rank: 16}", "no moments and gradients of the parameters")
    found.append(f"a smaller {names[-1]}.batch_rows or {names[-1]}.length (another update), or more chips")
    return found


def _of_sampling(config: Config, mesh: Mapping[str, int]) -> list[str]:
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
    if mesh["tensor"] < math.prod(mesh.values()):
        found.append(f"sampling.tensor={2 * mesh['tensor']} (parameters and cache over more devices)")
    return found
