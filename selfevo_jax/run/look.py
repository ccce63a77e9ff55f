"""Whether a run directory can be begun or gone on with, without writing anything."""

from __future__ import annotations

from selfevo_jax.config import Config
from selfevo_jax.errors import Faults, SelfevoError
from selfevo_jax.run.joining import Joining
from selfevo_jax.run.lock import RunLock
from selfevo_jax.run.run_dir import RunDir


def require_joinable(run: RunDir, config: Config, fingerprints: dict[str, str] | None) -> None:
    """Raises all that `RunDir.open` would refuse. Without fingerprints only the config is compared."""
    faults = Faults()
    faults.of(run.require_free)
    if (seen := RunLock(run.root).seen()) is not None:
        faults.add(SelfevoError(f"{run.root}: {seen[0]} is running this run; wait for it, stop it, or choose another"))
    if not faults and run.is_begun():
        faults.of(lambda: Joining(run.root, run.sums).look(config, fingerprints))
    faults.refuse()
