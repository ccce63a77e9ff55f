"""A model that is a checkpoint of a run is held against what that run knows of it."""

from __future__ import annotations

from pathlib import Path

from selfevo_jax import hosts
from selfevo_jax.checkpoint import base_of, locate, model_checksum
from selfevo_jax.errors import SelfevoError
from selfevo_jax.run.checksums import FILE, HEAD, Checksums
from selfevo_jax.storage import is_remote
from selfevo_jax.untrusted import read_object

PRINTS = "fingerprints.json"


def require_unchanged(source: str) -> None:
    """Compares a checkpoint inside a run directory, wherever it is used, with the checksums of its run.

    Adapters are compared with all that they are added to, a base outside of the run by the run's fingerprints. Every
    process calls it, process 0 reads. Other models have no checksums beside them, and pass.

    Raises:
      SelfevoError: a file that is not what it was when the checkpoint was finished, or is gone.
      ModelError: no such model.
    """
    path = locate(source)
    if path is not None and path.is_dir():
        folder = _whole(path)
        hosts.agree("comparing the model's checksums", lambda: _require(folder))


def _require(path: Path, upon: tuple[Path, ...] = ()) -> None:
    _require_folder(path)
    base = base_of(path)
    below = None if base is None else locate(base)
    if base is None or below is None or (below := _whole(below)) in (*upon, path):
        return
    if run_of(below) is not None:
        _require(below, (*upon, path))
    elif (root := run_of(path)) is not None and (record := root / PRINTS).exists():
        wanted = read_object(record).get("model")
        if wanted is not None and wanted != model_checksum(base):
            raise SelfevoError(
                f"{path}: adapters of {base}, whose weights are not those that the run began with; restore that model"
            )


def _whole(path: Path) -> Path:
    return path if is_remote(path) else path.resolve()


def run_of(path: Path) -> Path | None:
    """The run directory that a checkpoint is in; None where it is in none."""
    root = path.parent.parent
    inside = path.parent.name == "checkpoints" and any((root / name).exists() for name in (HEAD, FILE, "config.yaml"))
    return root if inside else None


def _require_folder(path: Path) -> None:
    if (root := run_of(path)) is None:
        return
    sums = Checksums(root)
    names = sums.names(path)
    if not names and (faults := sums.record_faults()):
        raise SelfevoError(
            f"{root}/{faults[0]}, so that {path.name} cannot be compared with what was saved; restore the run's "
            f"records from a copy, or copy {path} elsewhere to use it as it is"
        )
    for name in names:
        sums.refuse(sums.fault(root / name))
