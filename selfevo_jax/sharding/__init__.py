"""One mesh, and the rules that lay parameters and batches on it."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.sharding.mesh import AXES, make_mesh, on_each_device, regroup, sizes_of, spans_processes
    from selfevo_jax.sharding.rules import (
        DECODE_RULES,
        TRAIN_RULES,
        ShardingRules,
        batch_sharding,
        laid_out,
        on_devices,
        replicated,
        reshard,
        shardings,
    )
    from selfevo_jax.sharding.section import MeshSection
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "AXES",
    "DECODE_RULES",
    "TRAIN_RULES",
    "MeshSection",
    "ShardingRules",
    "batch_sharding",
    "laid_out",
    "make_mesh",
    "on_devices",
    "on_each_device",
    "regroup",
    "replicated",
    "reshard",
    "shardings",
    "sizes_of",
    "spans_processes",
]
