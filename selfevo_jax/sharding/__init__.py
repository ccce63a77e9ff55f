"""One mesh, and the rules that lay parameters and batches on it."""

from selfevo_jax.sharding.mesh import AXES, make_mesh, spans_processes
from selfevo_jax.sharding.rules import (
    DECODE_RULES,
    TRAIN_RULES,
    ShardingRules,
    batch_sharding,
    laid_out,
    replicated,
    reshard,
    shardings,
)
from selfevo_jax.sharding.section import MeshSection

__all__ = [
    "AXES",
    "DECODE_RULES",
    "TRAIN_RULES",
    "MeshSection",
    "ShardingRules",
    "batch_sharding",
    "laid_out",
    "make_mesh",
    "replicated",
    "reshard",
    "shardings",
    "spans_processes",
]
