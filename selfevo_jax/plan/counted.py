"""Bytes by count alone, where there is no compiler for chips that are not here (GPUs): no temporaries and no times."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfevo_jax.errors import SelfevoError

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from selfevo_jax.config import Config
    from selfevo_jax.model import ModelConfig
    from selfevo_jax.train import TrainSection

COUNTED = "counted, not compiled"


def prepare_devices(count: int) -> None:
    """Makes so many virtual CPU devices, which stand for the ones that are not here, before jax starts.

    Raises SelfevoError when jax has already been imported.
    """
    if "jax" in sys.modules:
        raise SelfevoError("jax has already started in this process; a plan needs a process of its own")
    os.environ["JAX_PLATFORMS"] = "cpu"
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}".strip()


@dataclass(frozen=True)
class Counted:
    """Bytes of one device."""

    mesh: dict[str, int]
    training: dict[str, int]
    decoding: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"note": COUNTED, "mesh": self.mesh, "training": self.training, "decoding": self.decoding}

    def lines(self) -> list[str]:
        """For people."""
        from selfevo_jax.sample.memory import gib

        mesh = ", ".join(f"{name} {size}" for name, size in self.mesh.items())
        found = [f"Bytes of a device on mesh {mesh}. {COUNTED.capitalize()}: activations and logits of training"]
        found[0] += " come on top. With --topology a TPU's own compiler tells all of it."
        for title, parts in (("training (learn)", self.training), ("decoding", self.decoding)):
            shown = ", ".join(f"{name} {gib(n)}" for name, n in parts.items())
            found.append(f"  {title}: {shown}; together {gib(sum(parts.values()))}")
        return found


def count(config: Config) -> Counted:
    """Parameters, moments, gradients and cache on the config's mesh over the devices that `prepare_devices` made.

    Raises ConfigError for a mesh that does not divide them, ModelError for the model.
    """
    from selfevo_jax.plan.planner import read_shape
    from selfevo_jax.sharding import make_mesh

    m = config.mesh
    return count_on(config, read_shape(config), make_mesh(m.data, m.fsdp, m.tensor, groups=config.sampling.tensor))


def count_on(config: Config, model: ModelConfig, mesh: Mesh) -> Counted:
    """`count` for a model and a mesh that are there."""
    from selfevo_jax.sample import sampler_memory
    from selfevo_jax.sharding import sizes_of

    s = config.sampling
    memory = sampler_memory(s, model, mesh)
    slots = -(-(s.slots or memory.ways) // memory.ways)
    name = f"cache of {slots} slots" if s.slots is not None else "cache of one slot (as many are taken as fit)"
    return Counted(
        sizes_of(mesh),
        training_bytes(config, config.learn, model, mesh),
        {
            "parameters and what is held beside": memory.parameters,
            name: slots * memory.slot,
            "temporaries (an estimate)": memory.temporaries(slots),
        },
    )


def training_bytes(config: Config, section: TrainSection, model: ModelConfig, mesh: Mesh) -> dict[str, int]:
    """Bytes on a device of a fine-tuning with a section's settings, without activations and logits."""
    import jax.numpy as jnp

    from selfevo_jax.plan.programs import held_copies, shard_bytes
    from selfevo_jax.sample import sampler_memory
    from selfevo_jax.sample.memory import device_bytes
    from selfevo_jax.sharding import TRAIN_RULES
    from selfevo_jax.train import gradient_shapes, train_settings
    from selfevo_jax.train.state import Form

    settings = train_settings(section, config.seed)
    form = Form.of(model, settings, mesh, TRAIN_RULES)
    shapes, layout = form.shapes, form.state

    def on_a_device(*parts: str) -> int:
        return sum(device_bytes(getattr(shapes, part), getattr(layout, part)) for part in parts)

    masters = sampler_memory(config.sampling, model, mesh).params(jnp.dtype(jnp.float32), TRAIN_RULES, mesh)
    return {
        "parameters": on_a_device("params", "frozen"),
        "optimizer": on_a_device("opt_state"),
        "gradients": shard_bytes(gradient_shapes(model, settings, mesh)),
        "held beside": held_copies(config, mesh) * masters,
    }
