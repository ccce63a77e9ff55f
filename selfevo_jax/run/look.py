"""Whether a run directory can be begun or gone on with, without writing anything."""

from __future__ import annotations

from selfevo_jax.config import Config
from selfevo_jax.errors import Faults, SelfevoError
from selfevo_jax.run.joining import Joining
from selfevo_jax.run.lock import LockError, RunLock
from selfevo_jax.run.run_dir import RunDir


def require_joinable(run: RunDir, config: Config, fingerprints: dict[str, str] | None) -> None:
    """Raises all that `RunDir.open` would refuse. Without fingerprints only the config is compared."""
    faults = Faults()
    faults.of(run.require_free)
    faults.of(lambda: _require_unowned(run))
    if not faults and run.is_begun():
        faults.of(lambda: Joining(run.root, run.sums).look(config, fingerprints))
    faults.refuse()


def _require_unowned(run: RunDir) -> None:
    try:
        seen = RunLock(run.root).seen()
    except LockError as error:
        raise SelfevoError(str(error)) from error
    if seen is not None:
        raise SelfevoError(
            f"{run.root}: {seen[0]} is running this run; wait for it, stop it, or choose another run_dir"
        )
