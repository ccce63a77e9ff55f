"""The run directory: its files and their checksums, journals, the lock, what is kept, and what begins from it."""

from selfevo_jax.run.costs import Cost, costs
from selfevo_jax.run.following import replay
from selfevo_jax.run.forking import fork
from selfevo_jax.run.names import name_of
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.run.sharing import Shared, share, shared
from selfevo_jax.run.verify import Verified, records, verify

__all__ = [
    "Cost",
    "RunDir",
    "Shared",
    "Verified",
    "costs",
    "fork",
    "name_of",
    "records",
    "replay",
    "share",
    "shared",
    "verify",
]
